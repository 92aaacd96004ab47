"""What a layer's linear maps should yield, with the tolerance that goes with it.

The maps are the reference's, in float64: exact for float32 arrays but for a rounding that the
tolerance covers.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from antiparallel.conformance import tolerance
from antiparallel.conformance.arrays import Dtype
from antiparallel.conformance.cases import LayerCase
from antiparallel.conformance.expectations import expect, expect_close
from antiparallel.spec import ConvTranspose, fan_out, layers
from antiparallel.spec.contract import Array, Gradients


class Expected(NamedTuple):
    """An array in float64 and how far each element may be from it."""

    values: Array
    tolerance: Array
    dtype: Dtype

    def require(self, observed: object, *, what: str, why: str, call: str) -> None:
        """Raise Violation unless the observed array is this one."""
        expect_close(
            observed, self.values, self.tolerance, self.dtype, what=what, why=why, call=call
        )


class ExpectedGradients(NamedTuple):
    """What a backward pass should yield."""

    input: Expected
    weight: Expected
    bias: Expected | None


def output(case: LayerCase, weight: Array) -> Expected:
    """Return the output for the case's input."""
    geometry, bias = case.geometry, case.bias_or_none()
    x, w, b = (None if a is None else a.astype(np.float64) for a in (case.x(), weight, bias))
    assert x is not None
    assert w is not None
    magnitude = layers.forward(geometry, abs(x), abs(w), None if b is None else abs(b))
    length = prod(geometry.weight_shape[1:]) + 1  # and the bias
    return Expected(
        layers.forward(geometry, x, w, b),
        tolerance.of_sum(case.dtype, length, magnitude),
        case.dtype,
    )


def gradients(case: LayerCase, feedback: Array) -> ExpectedGradients:
    """Return what a backward pass should yield with B for the case's input and error."""
    geometry = case.geometry
    x, error, b = (a.astype(np.float64) for a in (case.x(), case.error(), feedback))
    exact = layers.backward(geometry, x, error, b, bias=case.bias)
    size = layers.backward(geometry, abs(x), abs(error), abs(b), bias=case.bias)
    positions = error.size // geometry.n_out
    taps = x.size // geometry.n_in if isinstance(geometry, ConvTranspose) else positions

    def expected(length: int, part: str) -> Expected:
        magnitude = tolerance.of_sum(case.dtype, length, getattr(size, part))
        return Expected(getattr(exact, part), magnitude, case.dtype)

    return ExpectedGradients(
        expected(fan_out(geometry), "input"),
        expected(taps, "weight"),
        expected(positions, "bias") if case.bias else None,
    )


def require_gradients(
    observed: Gradients, expected: ExpectedGradients, *, why: str, call: str
) -> None:
    """Raise Violation unless all gradients of a backward pass are the expected ones."""
    expected.input.require(observed.input, what="input error", why=why, call=call)
    expected.weight.require(observed.weight, what="weight gradient", why=why, call=call)
    require_bias_gradient(observed, expected, why=why, call=call)


def require_bias_gradient(
    observed: Gradients, expected: ExpectedGradients, *, why: str, call: str
) -> None:
    """Raise Violation unless the bias gradient is the expected one, or None without a bias."""
    if expected.bias is not None:
        expected.bias.require(observed.bias, what="bias gradient", why=why, call=call)
    else:
        found = f"a bias gradient of type {type(observed.bias).__name__}"
        expect(observed.bias is None, found, "None for a layer without bias", call)
