"""Errors that are rounded on their way through B, and nothing else."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import antiparallel.keras as ap
from antiparallel.keras.engines import engine
from antiparallel.keras.layout import kernels
from antiparallel.spec import SpecError

from .conftest import RULES, array, gradients, numbers
from .test_layers import built_pair

LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Dense", (5,), {}, (3, 4)),
    ("EinsumDense", ("abc,cd->abd",), {"output_shape": (2, 5)}, (3, 2, 4)),
    ("Conv2D", (6, 3), {"strides": 2, "padding": "same"}, (2, 8, 7, 4)),
    ("DepthwiseConv2D", (3,), {"depth_multiplier": 2}, (2, 9, 8, 4)),
    ("Conv2DTranspose", (5, 3), {"strides": 2, "padding": "same"}, (2, 5, 4, 4)),
]

CASES = [(*layer, "ss") for layer in LAYERS] + [(*LAYERS[0], rule) for rule in RULES[1:]]


@pytest.mark.parametrize(
    ("name", "args", "options", "shape", "rule"),
    CASES,
    ids=[f"{name}-{rule}" for name, *_, rule in CASES],
)
def test_error_and_b_are_rounded_before_they_are_multiplied(
    name: str, args: Any, options: Any, shape: Any, rule: str
) -> None:
    wide, plain = built_pair(name, args, options, shape, rule)
    layer = getattr(ap, name)(*args, rule=rule, seed=3, error_dtype="bfloat16", **options)
    layer.build(shape)
    layer.set_weights(wide.get_weights())
    x, error = numbers(*shape), numbers(*plain(numbers(*shape)).shape, seed=1)
    (kernel,) = kernels(layer)
    matrix = ops.cast(engine.as_tensor(layer.feedback_matrix(kernel.name)), "bfloat16")
    values = [ops.cast(matrix, "float32"), *[v.value for v in plain.trainable_variables[1:]]]
    rounded = array(ops.cast(ops.cast(error, "bfloat16"), "float32"))
    _, (expected, *_) = gradients(plain, x, rounded, values)
    _, (size, *_) = gradients(plain, x, abs(rounded), [abs(values[0]), *values[1:]])
    y, (sent, *own) = gradients(layer, x, error)
    unrounded, (_, *ordinary) = gradients(wide, x, error)
    # Products of two bfloat16 numbers are exact in float32; what is left is how an engine sums
    # them, and the one rounding of the result.
    terms = int(np.prod(kernel.shape))
    assert (abs(sent - expected) <= 2**-8 * abs(expected) + terms * 2**-9 * size / 4).all()
    assert sent.dtype == x.dtype
    np.testing.assert_array_equal(y, unrounded)
    for mine, theirs in zip(own, ordinary, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_error_is_narrow_where_it_meets_b() -> None:
    """What bfloat16 does not hold is gone from the error that is sent, and only from there."""
    layer = ap.Dense(1, use_bias=False, rule="ss", scale=1.0, error_dtype="bfloat16")
    layer.build((1, 1))
    layer.kernel.assign([[0.5]])
    error = np.array([[1 + 2**-12]], dtype="float32")
    _, (sent, kernel) = gradients(layer, np.ones((1, 1), dtype="float32"), error)
    assert sent.item() == 1.0
    assert kernel.item() == 1 + 2**-12


@pytest.mark.parametrize("rule", ["ss", "fa"])
def test_convert_narrows_every_layer_and_verify_knows(rule: str) -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.Dense(5),
        ]
    )
    ap.convert(model, rule, seed=1, error_dtype="bfloat16")
    ap.verify(model, numbers(2, 8, 8, 3))
    again = keras.Sequential.from_config(model.get_config())
    layers = [layer for layer in again.layers if hasattr(layer, "error_dtype")]
    assert [layer.error_dtype for layer in layers] == ["bfloat16"] * 3
    assert not any(hasattr(layer, "error_dtype") for layer in ap.revert(model).layers)


def test_bp_never_rounds() -> None:
    layer, plain = built_pair("Dense", (5,), {}, (3, 4), "bp")
    layer.error_dtype = "bfloat16"
    x, error = numbers(3, 4), numbers(3, 5, seed=1)
    _, sent = gradients(layer, x, error)
    _, ordinary = gradients(plain, x, error)
    np.testing.assert_array_equal(sent[0], ordinary[0])


@pytest.mark.parametrize("dtype", ["int8", "narrow", 16])
def test_another_dtype_is_an_error(dtype: Any) -> None:
    with pytest.raises(SpecError, match="Expected error_dtype to be a floating dtype"):
        ap.Dense(3, error_dtype=dtype)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(SpecError, match="Received: error_dtype="):
        ap.convert(model, error_dtype=dtype)
    assert type(model.layers[0]) is keras.layers.Dense
