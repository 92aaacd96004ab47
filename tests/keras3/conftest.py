"""What the tests of the Keras backend share; the engine is that of KERAS_BACKEND."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from numpy.typing import NDArray

import antiparallel.keras as ap
from antiparallel.keras.engines import engine

RULES = ("ss", "ss-fixed", "ss-batch", "fa", "fa-sign")
COMPILED = {
    "tensorflow": ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}),
    "jax": ({"run_eagerly": True}, {"jit_compile": True}),
    "torch": ({"jit_compile": False},),
}[ap.ENGINE]
"""How ``fit`` can run on the engine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Keras converts variables by numpy.array(variable); NumPy 2 asks variables for more.
    ignored = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(0)


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Return normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def array(value: Any) -> NDArray[Any]:
    """Return a tensor or variable as NumPy's."""
    return ops.convert_to_numpy(value)


def gradients(
    layer: keras.layers.Layer, x: Any, error: Any, values: Sequence[Any] | None = None
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return a layer's output, and the gradients of input and variables for an error.

    Args:
        layer: A built layer.
        x: Its input.
        error: The error at its output.
        values: Values in the place of the trainable variables.
    """
    values = values or [variable.value for variable in layer.trainable_variables]
    fixed = [variable.value for variable in layer.non_trainable_variables]
    y, sent = engine.pullback(
        lambda x, *values: layer.stateless_call(list(values), fixed, x)[0],
        [x, *values],
        lambda _: ops.convert_to_tensor(error),
    )
    return array(y), [array(gradient) for gradient in sent]


def small_model() -> keras.Model:
    """Return a Functional model with three levels of nesting, dropout and a shared layer."""
    layers = keras.layers
    deepest = keras.Sequential(
        [keras.Input((4, 4, 8)), layers.Conv2D(4, 3, name="conv")], name="deepest"
    )
    inside = keras.Input((6, 6, 8))
    x = layers.DepthwiseConv2D(3, activation="relu", name="depthwise")(inside)
    x = layers.Flatten()(deepest(x))
    inner = keras.Model(inside, layers.Dense(10, activation="tanh", name="dense")(x), name="inner")
    pixels = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same", strides=2, name="first")(pixels)
    x = layers.BatchNormalization()(x)
    x = inner(layers.SeparableConv2D(8, 3, padding="same", name="separable")(x))
    shared = layers.Dense(10, name="shared")
    x = layers.Dropout(0.25)(shared(layers.ReLU()(shared(x))))
    return keras.Model(pixels, layers.Dense(5, name="last")(x), name="model")


def pictures(count: int = 16) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return inputs and labels for ``small_model``."""
    return numbers(count, 12, 12, 3), np.arange(count) % 5


def compiled(model: keras.Model, **how: Any) -> keras.Model:
    """Compile a model with the specification's SGD."""
    model.compile(
        optimizer=ap.SGD(1e-3, momentum=0.9, weight_decay=1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **how,
    )
    return model
