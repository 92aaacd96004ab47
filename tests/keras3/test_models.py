"""convert, revert, summary, verify, initialize, diagnostics; training, saving and loading."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import antiparallel.keras as ap
from antiparallel.keras.inventory import weight_layers
from antiparallel.keras.layout import kernels
from antiparallel.keras.verify import FeedbackError
from antiparallel.spec.initialization import initial_weight

from .conftest import COMPILED, RULES, array, compiled, pictures, small_model

NAMES = [
    "first",
    "separable",
    "inner/depthwise",
    "inner/deepest/conv",
    "inner/dense",
    "shared",
    "last",
]


class Block(keras.layers.Layer):
    """A custom layer that holds two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = keras.layers.Dense(8, name="first")
        self.second = keras.layers.Dense(8, name="second")

    def call(self, inputs: Any) -> Any:
        return self.second(ops.relu(self.first(inputs)))


class Subclassed(keras.Model):
    """A subclassed model with a custom layer inside."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.out = keras.layers.Dense(3, name="out")

    def call(self, inputs: Any) -> Any:
        return self.out(self.block(inputs))


def feedback_of(model: keras.Model) -> dict[str, Any]:
    return {
        f"{found.name}/{kernel.name}": array(found.module.feedback_matrix(kernel.name))
        for found in weight_layers(model)
        for kernel in kernels(found.module)
    }


@pytest.mark.parametrize("rule", RULES)
def test_a_converted_model_computes_the_same_and_every_error_goes_through_b(rule: str) -> None:
    model, (x, _) = small_model(), pictures()
    before, variables = model.predict(x, verbose=0), list(model.trainable_variables)
    assert ap.convert(model, rule, seed=1) is model
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    assert all(a is b for a, b in zip(model.trainable_variables, variables, strict=True))
    calls = ap.verify(model, x[:2])
    assert calls == {name: 2 if name == "shared" else 1 for name in NAMES}


def test_summary_says_what_follows_which_rule() -> None:
    model = small_model()
    ap.convert(model, "fa", overrides={"inner/*": "ss", "last": "bp"})
    rows = {row.name: row for row in ap.summary(model).rows}
    assert [row.rule for row in rows.values()] == ["fa", "fa", "fa", "ss", "ss", "ss", "fa", "bp"]
    assert rows["separable/pointwise_kernel"].feedback_parameters == 8 * 8
    assert "inner/deepest/conv" in str(ap.summary(model))


def test_a_separable_convolution_counts_as_two_weight_layers() -> None:
    assert [found.index for found in weight_layers(small_model())] == [0, 1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("how", COMPILED, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_a_converted_model_learns_in_fit(rule: str, how: dict[str, Any]) -> None:
    model, (x, y) = small_model(), pictures()
    ap.convert(model, rule, seed=1)
    if rule == "ss-batch" and how == {"jit_compile": True} and ap.ENGINE == "tensorflow":
        with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
            compiled(model, **how)
    else:
        compiled(model, **how)
    before = [array(variable) for variable in model.trainable_variables]
    callback = ap.DiagnosticsCallback()
    history = model.fit(x, y, epochs=2, batch_size=8, verbose=0, callbacks=[callback])
    assert np.isfinite(history.history["loss"]).all()
    assert all(
        (array(v) != b).any() for v, b in zip(model.trainable_variables, before, strict=True)
    )
    assert len(callback.history) == 2
    state = model.get_layer("first").feedback_state
    if rule == "ss-batch":
        assert state.counts == {"kernel": 4}


def test_eager_and_compiled_training_give_the_same_losses() -> None:
    losses = []
    x, y = pictures()
    for how in COMPILED:
        keras.utils.set_random_seed(0)
        model = ap.convert(small_model(), "ss")
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        losses.append(compiled(model, **how).fit(x, y, epochs=3, shuffle=False, verbose=0))
    first = losses[0].history["loss"]
    for other in losses[1:]:
        np.testing.assert_allclose(other.history["loss"], first, rtol=1e-4)


@pytest.mark.parametrize("rule", ["bp", *RULES])
def test_a_saved_model_goes_on_exactly(rule: str, tmp_path: Path) -> None:
    model, (x, y) = small_model(), pictures()
    ap.convert(model, rule, seed=1)
    compiled(model).train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for name, matrix in feedback_of(model).items():
        np.testing.assert_array_equal(feedback_of(again)[name], matrix)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("rule", ["bp", "ss", "fa"])
def test_weights_of_the_original_load_into_the_converted_model(rule: str, tmp_path: Path) -> None:
    original, converted, (x, _) = small_model(), small_model(), pictures()
    ap.convert(converted, rule)
    original.save_weights(tmp_path / "plain.weights.h5")
    before = feedback_of(converted) if rule == "fa" else {}
    converted.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(converted.predict(x, verbose=0), original.predict(x, verbose=0))
    for name, matrix in before.items():
        np.testing.assert_array_equal(feedback_of(converted)[name], matrix)
    if rule != "fa":  # which adds feedback
        converted.save_weights(tmp_path / "converted.weights.h5")
        original.load_weights(tmp_path / "converted.weights.h5")


def test_revert_gives_the_plain_model_back() -> None:
    model = small_model()
    kinds, paths = (
        [type(layer) for layer in model._flatten_layers()],
        [w.path for w in model.weights],
    )
    ap.revert(ap.convert(model, "ss-fixed"))
    assert [type(layer) for layer in model._flatten_layers()] == kinds
    assert [weight.path for weight in model.weights] == paths
    ap.convert(model, "fa")


def test_subclassed_models_and_layers_in_custom_layers_are_converted() -> None:
    model, x = Subclassed(), np.ones((2, 4), "float32")
    model(x)
    ap.convert(model, "ss")
    assert len(ap.verify(model, x)) == 3
    names = [row.name for row in ap.summary(model).rows]
    assert [name.split("/")[-1] for name in names] == ["first", "second", "out"]


def test_initialize_sets_the_specification_s_weights() -> None:
    model = ap.convert(small_model(), "fa-sign", seed=1)
    ap.initialize(model, seed=9)
    for found in weight_layers(model):
        for number, kernel in enumerate(kernels(found.module)):
            weight = array(getattr(found.module, kernel.name))
            index = found.index + number
            expected = initial_weight(kernel.geometry, np.dtype("float32"), seed=9, index=index)
            np.testing.assert_array_equal(kernel.to_canonical(weight), expected)
            feedback = array(found.module.feedback_matrix(kernel.name))
            np.testing.assert_array_equal(np.sign(feedback), np.sign(weight))
        assert not array(found.module.bias).any()


def test_diagnostics_compare_w_with_b() -> None:
    model = ap.convert(small_model(), "ss", overrides={"last": "bp"})
    ap.initialize(model)
    found = ap.diagnostics(model)
    assert len(found) == 8
    assert all(0 < row.angle < 60 for row in found.values())


class Skipping(Subclassed):
    """A model that can pass its block by."""

    skips = False

    def call(self, inputs: Any) -> Any:
        return self.out(inputs if self.skips else self.block(inputs))


def test_a_layer_that_is_not_called_is_not_verified() -> None:
    model, x = Skipping(), np.ones((2, 8), "float32")
    model(x)
    ap.convert(model, "ss")
    model.skips = True
    with pytest.raises(FeedbackError, match="first: was never called"):
        ap.verify(model, x)


def test_a_layer_that_sends_another_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, _) = ap.convert(small_model(), "ss"), pictures()
    monkeypatch.setattr("antiparallel.keras.feedback.matrix_of", lambda feedback: feedback.matrix)
    with pytest.raises(FeedbackError, match="sent another error than B gives"):
        ap.verify(model, x[:2])
