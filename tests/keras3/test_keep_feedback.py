"""Fixed feedback that is not kept but drawn again: the same bits, without the memory."""

import copy
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import antiparallel.keras as ap
from antiparallel.keras import attachment
from antiparallel.keras.contract import backend
from antiparallel.keras.engines import engine
from antiparallel.keras.layout import kernels
from antiparallel.spec import SpecError

from .conftest import COMPILED, array, compiled, numbers, pictures, small_model
from .test_engines import MODEL, run
from .test_layers import each_layer

FIXED = ("ss-fixed", "fa", "fa-sign")
"""The rules with numbers that never change."""
CAN_DRAW = [how for how in COMPILED if not (how.get("jit_compile") and engine.LACKS)]
"""How ``fit`` can run where it draws."""

each_rule = pytest.mark.parametrize("rule", FIXED)


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The layer indices that were drawn for, in order."""
    seen: list[int] = []
    draw: Callable[..., Any] = attachment.draw_like

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["index"])
        return draw(*args, **kwargs)

    monkeypatch.setattr(attachment, "draw_like", counted)
    return seen


def pair(make: Callable[[], Any], rule: str, **options: Any) -> list[Any]:
    """Return two converted models: one keeps its feedback, one does not."""
    models = []
    for keep in (True, False):
        keras.utils.set_random_seed(0)
        models.append(ap.convert(make(), rule, keep_feedback=keep, **options))
    return models


def stack(policy: Any = "float32") -> keras.Sequential:
    layers: list[Any] = [
        keras.Input((6, 6, 4), dtype="float32"),
        keras.layers.SeparableConv2D(5, 3, dtype=policy),
        keras.layers.Conv2DTranspose(3, 3, dtype=policy, activation="relu"),
        keras.layers.DepthwiseConv2D(3, dtype=policy),
        keras.layers.Conv2D(4, 3, dtype=policy),
        keras.layers.EinsumDense("abcd,de->abce", output_shape=(2, 2, 3), dtype=policy),
        keras.layers.Flatten(dtype=policy),
        keras.layers.Dense(3, dtype=policy),
    ]
    return keras.Sequential(layers)


def errors(model: Any) -> list[Any]:
    """Return the gradients of inputs and variables for one batch, in float64."""
    x = ops.cast(numbers(2, 6, 6, 4), model.layers[0].compute_dtype)
    values = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def pull_back(*inputs: Any) -> Any:
        return engine.pullback(
            lambda x, *values: model.stateless_call(list(values), fixed, x)[0],
            inputs,
            lambda y: ops.cast(numbers(2, 3, seed=1), y.dtype),
        )[1]

    # JAX would compile operation by operation; but whole graphs add in float64 in orders of theirs.
    if ap.ENGINE == "jax" and "float64" not in str(x.dtype):
        import jax

        pull_back = jax.jit(pull_back)
    sent = pull_back(x, *values)
    wide = [ops.cast(g, "float32") if "16" in str(g.dtype) else g for g in sent]
    return [array(gradient) for gradient in wide]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own, other)


@each_layer
@each_rule
def test_every_kind_of_layer_has_the_same_b(
    name: str, args: Any, options: Any, shape: Any, rule: str
) -> None:
    found = []
    for keep in (True, False):
        keras.utils.set_random_seed(0)
        layer = getattr(ap, name)(*args, rule=rule, seed=3, keep_feedback=keep, **options)
        layer.build(shape)
        found.append([array(layer.feedback_matrix(kernel.name)) for kernel in kernels(layer)])
    assert_same(*found)


@pytest.mark.parametrize(
    ("rule", "policy"),
    [
        ("ss-fixed", "float32"),
        ("fa-sign", "float32"),
        ("fa", "mixed_bfloat16"),
        ("fa-sign", "mixed_float16"),
        ("ss-fixed", "bfloat16"),
        ("fa-sign", "bfloat16"),
        ("fa", "float64"),
    ],
)
def test_in_every_precision_the_same_errors_are_sent(rule: str, policy: str) -> None:
    if policy in backend.unsupported:
        pytest.skip(backend.unsupported[policy])
    kept, redrawn = pair(lambda: stack(policy), rule)
    assert_same(errors(redrawn), errors(kept))


@each_rule
@pytest.mark.parametrize("how", CAN_DRAW, ids=str)
def test_fit_takes_the_same_steps_to_the_bit(rule: str, how: dict[str, Any]) -> None:
    ends = []
    for model in pair(small_model, rule, seed=3):
        keras.utils.set_random_seed(1)
        x, y = pictures()
        compiled(model, **how).fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        ends.append([array(weight) for weight in model.trainable_weights])
    assert_same(*ends)


@pytest.mark.parametrize("rule", ["bp", "ss", "ss-batch"])
def test_rules_that_keep_nothing_are_the_same_either_way(rule: str) -> None:
    kept, redrawn = pair(stack, rule)
    assert_same(errors(redrawn), errors(kept))
    assert not any(row.feedback_parameters for row in ap.summary(redrawn).rows)


@each_rule
def test_the_error_is_proved_to_go_back_through_b(rule: str) -> None:
    assert sum(ap.verify(pair(stack, rule)[1], numbers(2, 6, 6, 4)).values()) == 6


@each_rule
def test_nothing_of_the_weights_size_is_kept_but_signs_in_a_byte_each(rule: str) -> None:
    model = pair(stack, rule)[1]
    sizes = [prod(kernel.shape) for layer in layers_of(model) for kernel in kernels(layer)]
    held = [row.feedback_parameters for row in ap.summary(model).rows]
    if rule == "fa-sign":
        assert {variable.dtype for variable in model.non_trainable_variables} == {"int8"}
        assert held == sizes
    else:
        assert not model.non_trainable_variables
        assert set(held) == {0}


def layers_of(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, ap.FeedbackLayer)]


@pytest.mark.parametrize("rule", ["ss-fixed", "fa"])
def test_a_backward_pass_draws_once_a_kernel_and_a_forward_pass_never(
    rule: str, draws: list[int]
) -> None:
    model = pair(stack, rule)[1]
    draws.clear()
    model(numbers(2, 6, 6, 4))
    assert not draws
    errors(model)
    assert sorted(draws) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("rule", ["ss-fixed", "fa"])
@pytest.mark.parametrize("how", CAN_DRAW, ids=str)
def test_every_step_of_fit_draws(rule: str, how: dict[str, Any], draws: list[int]) -> None:
    model = compiled(pair(stack, rule)[1], **how)
    counts = []
    for _ in range(3):
        model.fit(numbers(2, 6, 6, 4), np.arange(2), verbose=0)
        counts.append(len(draws))
    first, second = np.diff(counts)
    assert first == second >= 6  # not the first kernel's, on engines that leave it out


@pytest.mark.clause("R8")
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@each_rule
def test_a_file_holds_what_numbers_are_made_of_again(
    rule: str, suffix: str, tmp_path: Path
) -> None:
    model = pair(stack, rule, seed=2**64 - 2)[1]
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        model.save(path)
        again = keras.models.load_model(path)
    else:
        model.save_weights(path)
        again = pair(stack, rule, seed=5)[1]  # another seed: all comes from the file
        again.load_weights(path)
    assert_same(errors(again), errors(model))
    assert {layer.keep_feedback for layer in layers_of(again)} == {False}


@pytest.mark.parametrize("keeps", [True, False])
@each_rule
def test_a_file_of_the_other_kind_is_an_error(rule: str, keeps: bool, tmp_path: Path) -> None:
    models = pair(lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), rule)
    own, other = models if keeps else reversed(models)
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(Exception, match="Expected the rule's state under the same keep_feedback"):
        own.load_weights(tmp_path / "other.weights.h5")


@each_rule
def test_a_layer_made_anew_from_its_configuration_is_the_same(rule: str) -> None:
    layer = ap.Dense(3, rule=rule, seed=3, keep_feedback=False)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert not again.keep_feedback
    older = {name: value for name, value in layer.get_config().items() if name != "keep_feedback"}
    assert ap.Dense.from_config(older).keep_feedback


@each_rule
def test_a_model_is_copied_and_reverted_to_the_plain_one(rule: str) -> None:
    keras.utils.set_random_seed(0)
    plain = stack()
    model = pair(stack, rule)[1]
    assert_same(errors(copy.deepcopy(model)), errors(model))
    ap.revert(model)
    assert [type(layer) for layer in model.layers] == [type(layer) for layer in plain.layers]
    assert_same(errors(model), errors(plain))


def test_initialising_takes_the_signs_of_the_new_weights() -> None:
    layer = ap.initialize(pair(stack, "fa-sign")[1], seed=8).layers[-1]
    lam = np.float32(layer.feedback_scale["kernel"])
    np.testing.assert_array_equal(
        array(layer.feedback_matrix()), np.sign(array(layer.kernel)) * lam
    )


def test_signs_of_nan_are_refused_and_nothing_is_changed() -> None:
    model = stack()
    last = model.layers[-1]
    last.kernel.assign(np.full(last.kernel.shape, np.nan))
    with pytest.raises(SpecError, match=f"Received: layer={last.name!r} with NaN in kernel"):
        ap.convert(model, "fa-sign", keep_feedback=False)
    assert not any(row.converted for row in ap.summary(model).rows)
    ap.convert(model, "fa", keep_feedback=False)


@pytest.mark.skipif(ap.ENGINE != "tensorflow", reason="TensorFlow only")
@pytest.mark.parametrize("rule", ["ss-fixed", "fa"])
def test_drawing_turns_jit_off(rule: str) -> None:
    kept, redrawn = pair(stack, rule)
    assert [model.supports_jit for model in (kept.layers[-1], redrawn.layers[-1])] == [True, False]
    assert ap.revert(redrawn).layers[-1].supports_jit
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        compiled(pair(stack, rule)[1], jit_compile=True)


@pytest.mark.skipif(ap.ENGINE != "torch", reason="torch.compile is the torch engine's")
# torch's own, where the graph breaks
@pytest.mark.filterwarnings("ignore:.*The .grad attribute of a Tensor that is not a leaf")
@each_rule
def test_torch_compile_sends_the_same_errors(rule: str) -> None:
    import torch

    found = []
    for model in pair(stack, rule):
        torch.compiler.reset()
        call = torch.compile(model, backend="aot_eager")
        (call(torch.from_numpy(numbers(2, 6, 6, 4)), training=True) ** 2).sum().backward()
        found.append([array(weight.value.grad) for weight in model.trainable_variables])
    for own, expected in zip(*found, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


UNKEPT = MODEL.replace("rule, seed=1", "rule, seed=1, keep_feedback=keep").replace(
    "def model(rule):", "def model(rule, keep=True):"
)


@pytest.mark.skipif(ap.ENGINE != "jax", reason="JAX only")
@each_rule
def test_on_several_jax_devices_each_draws_and_none_sends_its_numbers(rule: str) -> None:
    code = (
        UNKEPT
        + f"""
import jax
alone = trained(model({rule!r}, keep=False))
two = keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"])
keras.distribution.set_distribution(two)
kept, redrawn = model({rule!r}), model({rule!r}, keep=False)
def collectives(made):
    trainable, fixed = values(made.trainable_variables), values(made.non_trainable_variables)
    loss = lambda trainable, x: (made.stateless_call(trainable, fixed, x)[0] ** 2).sum()
    pictures = jax.device_put(x, two.get_data_layout(x.shape).backend_layout)
    text = jax.jit(jax.grad(loss)).lower(trainable, pictures).compile().as_text()
    return [text.count(f" {{kind}}(") for kind in ("all-reduce", "all-gather", "all-to-all")]
assert collectives(kept) == collectives(redrawn) != [0, 0, 0], collectives(redrawn)
trained(kept)
for a, b in zip(alone, trained(redrawn), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
for a, b in zip(values(kept.trainable_variables), values(redrawn.trainable_variables), strict=True):
    np.testing.assert_array_equal(a, b)
"""
    )
    flags = "--xla_force_host_platform_device_count=2"
    result = run(code, KERAS_BACKEND="jax", XLA_FLAGS=flags)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(ap.ENGINE != "jax", reason="JAX only")
@each_rule
def test_rematerialised_on_jax_the_same_error_is_sent(rule: str) -> None:
    import jax

    model = pair(stack, rule)[1]
    values = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def loss(x: Any) -> Any:
        return (model.stateless_call(values, fixed, x)[0] ** 2).sum()

    x = numbers(2, 6, 6, 4)
    np.testing.assert_allclose(
        jax.grad(jax.checkpoint(loss))(x), jax.grad(loss)(x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.skipif(ap.ENGINE != "tensorflow", reason="TensorFlow only")
@each_rule
def test_replicas_of_tensorflow_s_train_as_one(rule: str) -> None:
    code = (
        UNKEPT
        + f"""
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
alone = trained(model({rule!r}, keep=False))
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    made = model({rule!r}, keep=False)
for a, b in zip(alone, trained(made), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
"""
    )
    result = run(code, KERAS_BACKEND="tensorflow")
    assert result.returncode == 0, result.stderr
