"""What is refused, what is left alone and named, and what verify finds only at run time."""

from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import antiparallel.keras as ap
from antiparallel.keras.verify import FeedbackError
from antiparallel.spec import SpecError, UnsupportedError

from .conftest import RULES, array, pictures, small_model


def unbuilt() -> keras.Model:
    return keras.Sequential([keras.layers.Dense(3, name="first")])


def hiding() -> keras.Model:
    return with_lambda(hidden_layer())


def converted() -> keras.Model:
    return ap.convert(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))


def hidden_layer() -> keras.layers.Layer:
    hidden = keras.layers.Dense(4, name="hidden")
    hidden.build((None, 4))
    return hidden


def with_lambda(function: Any, **options: Any) -> keras.Model:
    inside = keras.layers.Lambda(function, output_shape=(4,), **options)
    return keras.Sequential([keras.Input((4,)), inside, keras.layers.Dense(2)])


def applied(layer: Any, x: Any) -> Any:
    return layer(x)


class Holder:
    """A callable that is no layer and holds one."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __call__(self, x: Any) -> Any:
        return self.held(x)


def in_a_helper(held: Any) -> Any:
    def helper(x: Any) -> Any:
        return held(x)

    return lambda x: helper(x) * 2


def in_a_default(held: Any) -> Any:
    def function(x: Any, held: Any = held) -> Any:
        return held(x)

    return function


def in_an_object(held: Any) -> Any:
    holder = Holder(held)
    return lambda x: holder.held(x)


def in_a_container(held: Any) -> Any:
    holders = {"all": [held]}
    return lambda x: holders["all"][0](x)


def in_a_variable(held: Any) -> Any:
    variable = held.kernel
    return lambda x: ops.matmul(x, variable)


HIDING_PLACES = {
    "itself": lambda held: held,
    "its method": lambda held: held.call,
    "a lambda": lambda held: lambda x: held(x),
    "a partial": lambda held: partial(applied, held),
    "a callable": Holder,
    "its own method": lambda held: Holder(held).__call__,
    "a helper": in_a_helper,
    "a default": in_a_default,
    "an object": in_an_object,
    "a container": in_a_container,
    "a variable": in_a_variable,
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_a_lambda_layer_that_hides_weights_is_refused_and_what_it_hides_is_named(
    place: str,
) -> None:
    model = with_lambda(HIDING_PLACES[place](hidden_layer()))
    with pytest.raises(UnsupportedError, match=r"Received: .*lambda.*\((Dense|Variable)\)"):
        ap.convert(model)
    assert not any(row.converted for row in ap.summary(model).rows)


def test_lambda_layers_without_weights_are_no_obstacle() -> None:
    factors, holder, noise = [2.0], Holder(3.0), keras.random.SeedGenerator(0)
    functions = (
        ops.tanh,
        lambda x: ops.relu(x) * factors[0],
        lambda x: x * holder.held,
        lambda x: x + keras.random.normal(ops.shape(x), seed=noise),
    )
    for function in functions:
        (row,) = ap.summary(ap.convert(with_lambda(function))).rows
        assert row.converted


def test_a_layer_in_a_lambda_layer_s_arguments_is_the_model_s_and_converted() -> None:
    model = with_lambda(lambda x, held: held(x), arguments={"held": hidden_layer()})
    ap.convert(model)
    assert len(ap.verify(model, np.ones((2, 4), "float32"))) == 2


@pytest.mark.parametrize("use", [ap.initialize, ap.diagnostics])
def test_what_needs_weights_names_a_layer_that_is_not_built(use: Any) -> None:
    with pytest.raises(UnsupportedError, match="Received: layer='first'"):
        use(unbuilt())


def test_feedback_that_is_not_there_is_refused() -> None:
    layer = ap.Dense(3, name="d")
    with pytest.raises(UnsupportedError, match="Received: layer='d'"):
        layer.feedback_matrix()
    layer.build((None, 4))
    with pytest.raises(SpecError, match="Received: kernel='depthwise_kernel'"):
        layer.feedback_matrix("depthwise_kernel")


def test_verifying_a_model_without_rules_is_refused() -> None:
    with pytest.raises(SpecError, match="Expected a model with layers that follow a rule"):
        ap.verify(small_model(), pictures()[0])


def without_weights() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (unbuilt, SpecError, "Expected a built model"),
        (hiding, UnsupportedError, "Lambda"),
        (converted, SpecError, "revert it first"),
        (without_weights, SpecError, "no weight layers"),
    ],
)
def test_what_cannot_be_converted_is_refused_whole(make: Any, error: Any, message: str) -> None:
    model = make()
    kinds = [type(layer) for layer in model._flatten_layers()]
    with pytest.raises(error, match=message):
        ap.convert(model)
    assert [type(layer) for layer in model._flatten_layers()] == kinds


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"overrides": {"nobody": "bp"}}, "overrides='nobody'"),
        ({"rule": "backprop"}, "rule='backprop'"),
        ({"seed": -1}, "seed=-1"),
        ({"scale": 0}, "scale=0"),
    ],
)
def test_bad_arguments_change_nothing(arguments: dict[str, Any], received: str) -> None:
    model = small_model()
    with pytest.raises(SpecError, match=received):
        ap.convert(model, **arguments)
    assert not any(row.converted for row in ap.summary(model).rows)


class Scaled(keras.layers.Dense):
    """A user's own kind of layer."""


def test_layers_of_unknown_kind_are_left_alone_and_named() -> None:
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Embedding(5, 3),
            keras.layers.Flatten(),
            Scaled(3, name="s"),
        ]
    )
    model.add(keras.layers.Dense(2, name="d"))
    ap.convert(model)
    rows = {row.name: row for row in ap.summary(model).rows}
    assert "a subclass of Dense" in rows["s"].reason
    assert rows["d"].converted
    assert any("no rule for this kind" in row.reason for row in rows.values())
    with pytest.raises(SpecError, match="revert it first"):
        ap.convert(model, overrides={"s": "ss"})
    ap.revert(model)
    with pytest.raises(UnsupportedError, match="overrides='s'"):
        ap.convert(model, overrides={"s": "ss"})


class Reader(keras.layers.Layer):
    """A layer that multiplies by another's kernel instead of calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.layers.Dense(3, name="inner")

    def build(self, input_shape: Any) -> None:
        self.inner.build(input_shape)

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, self.inner.kernel)


def test_a_kernel_that_is_read_behind_its_layer_s_back_is_not_reported_as_converted() -> None:
    model = keras.Sequential([keras.Input((4,)), Reader(), keras.layers.Dense(2, name="d")])
    ap.convert(model)
    (row,) = [row for row in ap.summary(model).rows if row.name.endswith("inner")]
    assert "read by Reader.call" in row.reason


class ReaderAndCaller(Reader):
    """A layer that calls another and multiplies by its kernel too, by a name of its own."""

    shares = False

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.shares:
            self.tied = self.inner.kernel

    def call(self, inputs: Any) -> Any:
        dense = self.inner
        return dense(inputs) + ops.matmul(inputs, dense.kernel)


class Sharer(ReaderAndCaller):
    """The same with the kernel as a variable of its own too."""

    shares = True


@pytest.mark.parametrize("rule", ["bp", *RULES])
def test_a_kernel_that_is_used_in_its_layer_and_outside_is_found_at_run_time(rule: str) -> None:
    layers = [keras.layers.Dense(4, name="d"), ReaderAndCaller(), keras.layers.Dense(2)]
    model = ap.convert(keras.Sequential([keras.Input((4,)), *layers]), rule)
    x = np.ones((2, 4), "float32")
    before = [array(weight) for weight in model.weights]
    with pytest.raises(FeedbackError) as caught:
        ap.verify(model, x)
    (line,) = str(caught.value).splitlines()[1:]
    assert line.endswith("inner: its kernel took part outside of its calls")
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(array(weight), value)


def test_a_layer_may_use_a_variable_that_it_owns_together_with_another() -> None:
    layers = [keras.layers.Dense(4, name="d"), Sharer(), keras.layers.Dense(2)]
    model = ap.convert(keras.Sequential([keras.Input((4,)), *layers]))
    assert len(ap.verify(model, np.ones((2, 4), "float32"))) == 3
