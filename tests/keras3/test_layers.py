"""Layers: forward as Keras's own, the error through B, ordinary gradients of parameters."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import antiparallel.keras as ap
from antiparallel.keras.layout import kernels
from antiparallel.spec import SpecError, UnsupportedError, feedback_scale
from antiparallel.spec.draws import Purpose, draw

from .conftest import RULES, array, gradients, numbers

LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Dense", (5,), {}, (3, 4)),
    ("EinsumDense", ("abc,cde->abde",), {"output_shape": (3, 2, 3), "bias_axes": "de"}, (2, 3, 4)),
    ("Conv1D", (6, 3), {"padding": "causal", "dilation_rate": 2}, (2, 9, 4)),
    ("Conv2D", (6, 3), {"strides": 2, "padding": "same"}, (2, 8, 7, 4)),
    ("Conv2D", (6, 3), {"groups": 2}, (2, 8, 7, 4)),
    ("Conv2D", (6, (2, 3)), {"dilation_rate": 2, "padding": "same"}, (2, 8, 7, 4)),
    ("Conv2D", (6, 3), {"strides": 2, "data_format": "channels_first"}, (2, 4, 8, 7)),
    ("Conv3D", (6, 2), {"strides": (1, 2, 3)}, (2, 5, 6, 7, 4)),
    ("Conv3D", (6, 2), {"padding": "same"}, (2, 3, 4, 3, 4)),
    ("DepthwiseConv1D", (3,), {"depth_multiplier": 2, "strides": 2}, (2, 9, 4)),
    ("DepthwiseConv2D", (3,), {"depth_multiplier": 2, "padding": "same"}, (2, 9, 8, 4)),
    ("SeparableConv1D", (5, 3), {"strides": 2, "padding": "same"}, (2, 9, 4)),
    ("SeparableConv2D", (5, 3), {"depth_multiplier": 2}, (2, 9, 8, 4)),
    ("Conv1DTranspose", (5, 3), {"strides": 2, "padding": "same"}, (2, 9, 4)),
    (
        "Conv2DTranspose",
        (5, 3),
        {"strides": 2, "padding": "same", "output_padding": 1},
        (2, 5, 4, 4),
    ),
    ("Conv2DTranspose", (5, 2), {"strides": 3}, (2, 5, 4, 4)),
    ("Conv3DTranspose", (5, 2), {"strides": 2, "padding": "same"}, (2, 3, 4, 5, 4)),
]

each_layer = pytest.mark.parametrize(
    ("name", "args", "options", "shape"), LAYERS, ids=[f"{n}-{o}" for n, _, o, _ in LAYERS]
)


def built_pair(
    name: str, args: tuple[Any, ...], options: dict[str, Any], shape: tuple[int, ...], rule: str
) -> tuple[Any, Any]:
    """Return a layer with a rule and Keras's own with the same weights."""
    layer = getattr(ap, name)(*args, rule=rule, seed=3, **options)
    plain = getattr(keras.layers, name)(*args, **options)
    layer.build(shape)
    plain.build(shape)
    for mine, own in zip(layer.trainable_variables, plain.trainable_variables, strict=True):
        own.assign(mine)
    return layer, plain


@each_layer
@pytest.mark.parametrize("rule", ["bp", *RULES])
def test_forward_is_keras_own_bit_for_bit(
    name: str, args: Any, options: Any, shape: Any, rule: str
) -> None:
    layer, plain = built_pair(name, args, options, shape, rule)
    x = numbers(*shape)
    np.testing.assert_array_equal(array(layer(x)), array(plain(x)))
    assert tuple(layer.compute_output_shape(shape)) == tuple(plain(x).shape)


@each_layer
@pytest.mark.parametrize("rule", RULES)
def test_the_error_is_sent_through_b(
    name: str, args: Any, options: Any, shape: Any, rule: str
) -> None:
    layer, plain = built_pair(name, args, options, shape, rule)
    x = numbers(*shape)
    error = numbers(*plain(x).shape, seed=1)
    matrices = [layer.feedback_matrix(kernel.name) for kernel in kernels(layer)]
    _, (sent, *_) = gradients(layer, x, error)
    values = [*matrices, *[v.value for v in plain.trainable_variables[len(matrices) :]]]
    _, (expected, *_) = gradients(plain, x, error, values)
    _, (by_weight, *_) = gradients(plain, x, error)
    sizes = [abs(value) for value in matrices]
    _, (size, *_) = gradients(plain, x, abs(error), [*sizes, *values[len(matrices) :]])
    terms = sum(np.prod(kernel.shape) for kernel in kernels(layer))
    assert (abs(sent - expected) <= terms * np.finfo("float32").eps * size).all()
    assert (abs(sent - by_weight) > terms * np.finfo("float32").eps * size).any()


@pytest.mark.parametrize("rule", ["ss", "ss-fixed"])
def test_a_large_dense_layer_sends_the_error_through_b(rule: str) -> None:
    """An engine may make B in blocks."""
    layer, _ = built_pair("Dense", (1501,), {}, (3, 1500), rule)
    x, error = numbers(3, 1500), numbers(3, 1501, seed=1)
    _, (sent, *_) = gradients(layer, x, error)
    matrix = array(layer.feedback_matrix()).astype("float64")
    bound = 1501 * np.finfo("float32").eps * (abs(error) @ abs(matrix).T)
    assert (abs(sent - error @ matrix.T) <= bound).all()


@each_layer
def test_gradients_of_parameters_are_the_ordinary_ones(
    name: str, args: Any, options: Any, shape: Any
) -> None:
    layer, plain = built_pair(name, args, options, shape, "ss")
    x = numbers(*shape)
    error = numbers(*plain(x).shape, seed=1)
    _, (_, *found) = gradients(layer, x, error)
    _, (_, *ordinary) = gradients(plain, x, error)
    first = 1 if name.startswith("Separable") else 0  # its first kernel gets the second's error
    for mine, own in list(zip(found, ordinary, strict=True))[first:]:
        np.testing.assert_array_equal(mine, own)


@each_layer
def test_feedback_is_the_specification_s_draw(
    name: str, args: Any, options: Any, shape: Any
) -> None:
    layer = getattr(ap, name)(*args, rule="fa", seed=(7, 4), **options)
    layer.build(shape)
    for number, kernel in enumerate(kernels(layer)):
        lam = feedback_scale(kernel.geometry)
        drawn = draw(kernel.geometry, lam, seed=7, index=4 + number, purpose=Purpose.FEEDBACK)
        found = kernel.to_canonical(array(layer.feedback_matrix(kernel.name)))
        np.testing.assert_array_equal(found, drawn.astype("float32"))


@each_layer
@pytest.mark.parametrize("rule", RULES)
def test_a_layer_made_anew_from_its_configuration_is_the_same(
    name: str, args: Any, options: Any, shape: Any, rule: str
) -> None:
    layer = getattr(ap, name)(*args, rule=rule, seed=3, scale=0.5, **options)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    layer.build(shape)
    again.build(shape)
    if rule != "fa-sign":  # which is made of the weights
        again.set_weights(layer.get_weights())
        for kernel in kernels(layer):
            np.testing.assert_array_equal(
                array(again.feedback_matrix(kernel.name)), array(layer.feedback_matrix(kernel.name))
            )


def test_the_activation_s_own_derivative_comes_before_b() -> None:
    layer, _ = built_pair("Dense", (5,), {"activation": "relu"}, (3, 4), "ss")
    x, error = numbers(3, 4), numbers(3, 5, seed=1)
    y, (sent, *_) = gradients(layer, x, error)
    expected = np.where(y > 0, error, 0) @ array(layer.feedback_matrix()).T
    tolerance = 6 * np.finfo("float32").eps * abs(error) @ abs(array(layer.feedback_matrix())).T
    assert (abs(sent - expected) <= tolerance).all()


def test_ss_batch_counts_backward_passes_only() -> None:
    layer = ap.Dense(3, rule="ss-batch", seed=0)
    layer.build((2, 4))
    x, error = numbers(2, 4), numbers(2, 3, seed=1)
    for count in range(3):
        layer(x)
        before = array(layer.feedback_matrix())
        _, (sent, *_) = gradients(layer, x, error)
        np.testing.assert_allclose(sent, error @ before.T, rtol=1e-5, atol=1e-6)
        assert layer.feedback_state.counts == {"kernel": count + 1}


def test_subnormal_weights_have_signs_and_zeros_and_nan_are_kept() -> None:
    layer = ap.Dense(1, rule="ss", scale=2.0)
    layer.build((1, 5))
    layer.kernel.assign(np.array([[1e-40], [-1e-40], [0.0], [-0.0], [np.nan]], "float32"))
    found = array(layer.feedback_matrix())[:, 0]
    np.testing.assert_array_equal(found, [2, -2, 0, 0, np.nan])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("rule", ["ss", "ss-fixed", "fa"])
def test_mixed_precision_computes_the_error_in_the_compute_dtype(policy: str, rule: str) -> None:
    layer = ap.Dense(3, rule=rule, seed=0, dtype=policy)
    layer.build((2, 4))
    x = ops.cast(numbers(2, 4), layer.compute_dtype)
    error = ops.cast(numbers(2, 3, seed=1), layer.compute_dtype)
    from antiparallel.keras.engines import engine

    y, (sent,) = engine.pullback(layer, [x], lambda _: error)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    assert keras.backend.standardize_dtype(sent.dtype) == layer.compute_dtype
    feedback = array(ops.cast(ops.cast(layer.feedback_matrix(), layer.compute_dtype), "float32"))
    exact = array(ops.cast(error, "float32"))
    size = abs(exact) @ abs(feedback).T
    eps = 2.0**-7 if "bf" in policy else 2.0**-10
    found = array(ops.cast(sent, "float32"))
    assert (abs(found - exact @ feedback.T) <= 5 * eps * size).all()


def test_an_exception_in_the_feedback_operation_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ap.Dense(3, rule="ss")
    layer.build((2, 4))

    def broken(*args: Any) -> Any:
        raise ArithmeticError("broken on purpose")

    monkeypatch.setattr("antiparallel.keras.feedback.matrix_of", broken)
    with pytest.raises(ArithmeticError, match="broken on purpose"):
        gradients(layer, numbers(2, 4), numbers(2, 3))


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"rule": "sss"}, "rule='sss'"),
        ({"scale": -1.0}, "scale=-1.0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": (1, 2, 3)}, r"seed=\(1, 2, 3\)"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict[str, Any], received: str) -> None:
    with pytest.raises(SpecError, match=received):
        ap.Dense(3, **arguments)


def test_an_einsum_that_is_no_dense_layer_is_refused() -> None:
    layer = ap.EinsumDense("abc,acd->abd", output_shape=(3, 5))
    with pytest.raises(UnsupportedError, match="equation='abc,acd->abd'"):
        layer.build((2, 3, 4))


def test_functions_refuse_feedback_of_another_shape() -> None:
    with pytest.raises(SpecError, match=r"feedback\.shape"):
        ap.functional.dense(numbers(2, 4), numbers(4, 3), numbers(3, 4))
