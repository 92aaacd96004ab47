"""Chapter N: notation, shapes, dtypes, and what a layer computes forward."""

import numpy as np

from antiparallel.conformance import linear_maps
from antiparallel.conformance import strategies as draws
from antiparallel.conformance.cases import LayerCase
from antiparallel.conformance.expectations import expect, expect_array, expect_equal
from antiparallel.conformance.registry import check
from antiparallel.spec.contract import Array, Backend


def _require_output(backend: Backend, case: LayerCase) -> None:
    observed = case.layer(backend).forward(case.x())
    expected = linear_maps.output(case, case.weight())
    expected.require(observed, what="output", why="W x + b", call=case.call("forward(x)"))


@check("N3", case=draws.layer_cases(draws.dense_layers()))
def check_forward_of_dense_layers(backend: Backend, case: LayerCase) -> None:
    """A dense layer yields ``x W^T + b`` for any leading dimensions, under every rule."""
    _require_output(backend, case)


@check("N4", case=draws.layer_cases(draws.convolutions()))
def check_forward_of_convolutions(backend: Backend, case: LayerCase) -> None:
    """A convolution is a cross-correlation with the spec's padding, dilation and groups."""
    _require_output(backend, case)


@check("N5", case=draws.layer_cases(draws.same_convolutions()))
def check_same_padding(backend: Backend, case: LayerCase) -> None:
    """``"same"`` puts the odd zero after, and pads by the size of the input where it strides."""
    _require_output(backend, case)


@check("N6", case=draws.layer_cases(draws.transposed_convolutions()))
def check_forward_of_transposed_convolutions(backend: Backend, case: LayerCase) -> None:
    """A transposed convolution takes its weights in the canonical layout."""
    _require_output(backend, case)


@check("N7", case=draws.layer_cases())
def check_dtype_is_kept(backend: Backend, case: LayerCase) -> None:
    """Output, gradients and feedback have the dtype and the shapes that the layer has."""
    layer = case.layer(backend)
    call, weight_shape = case.call("backward(x, error)"), case.geometry.weight_shape
    output_shape = case.geometry.output_shape(case.x_shape)
    expect_array(layer.forward(case.x()), output_shape, case.dtype, what="output", call=call)
    expect_array(layer.feedback(), weight_shape, case.dtype, what="feedback", call=call)
    found = layer.backward(case.x(), case.error())
    expect_array(found.input, case.x_shape, case.dtype, what="input error", call=call)
    expect_array(found.weight, weight_shape, case.dtype, what="weight gradient", call=call)
    if case.bias:
        shape = (case.geometry.n_out,)
        expect_array(found.bias, shape, case.dtype, what="bias gradient", call=call)


@check("N9", case=draws.layer_cases())
def check_arguments_are_not_modified(backend: Backend, case: LayerCase) -> None:
    """No call writes into the arrays that it was given."""
    given = {
        "weight": case.weight(),
        "bias": case.bias_or_none(),
        "x": case.x(),
        "error": case.error(),
        "new weight": case.weight(1),
    }
    before = {name: None if array is None else array.copy() for name, array in given.items()}
    layer = case.layer(backend, weight=given["weight"], bias=given["bias"])
    layer.forward(_present(given["x"]))
    layer.backward(_present(given["x"]), _present(given["error"]))
    layer.set_weight(_present(given["new weight"]))
    layer.backward(_present(given["x"]), _present(given["error"]))
    for name, array in given.items():
        if array is not None:
            call = case.call("backward(x, error)")
            same = np.array_equal(array, _present(before[name]))
            expect(same, f"that {name} was changed", "left as it was given", call)


def _present(array: Array | None) -> Array:
    assert array is not None
    return array


@check("N7", case=draws.layer_cases())
def check_repeated_calls_agree(backend: Backend, case: LayerCase) -> None:
    """A layer that is called again gives the same results, within rounding."""
    layer = case.layer(backend)
    expected = linear_maps.output(case, case.weight())
    for number in range(2):
        why, call = f"the same in call {number}", case.call("forward(x) and backward(x, error)")
        expected.require(layer.forward(case.x()), what="output", why=why, call=call)
        back = linear_maps.gradients(case, layer.feedback())
        found = layer.backward(case.x(), case.error())
        linear_maps.require_gradients(found, back, why=why, call=call)


@check("N8", case=draws.layer_cases(leading=(0,)))
def check_empty_batch(backend: Backend, case: LayerCase) -> None:
    """An empty batch gives an empty output and gradients of zero."""
    layer, call = case.layer(backend), case.call("backward(x, error)")
    shape = case.geometry.output_shape(case.x_shape)
    expect_array(layer.forward(case.x()), shape, case.dtype, what="output", call=call)
    found = layer.backward(case.x(), case.error())
    expect_array(found.input, case.x_shape, case.dtype, what="input error", call=call)
    zeros = np.zeros(case.geometry.weight_shape, case.dtype)
    why = "zero: there is no error"
    expect_equal(found.weight, zeros, what="weight gradient", why=why, call=call)
    if case.bias:
        zeros = np.zeros(case.geometry.n_out, case.dtype)
        expect_equal(found.bias, zeros, what="bias gradient", why=why, call=call)
