"""Chapters N and F: the layers' maps and gradients, against three other derivations of them.

The first lists a layer's connections (weight, input, output) as N3, N4 and N6 write them and sums
over the list in plain loops. The second differentiates the forward pass numerically. The third is
the identity that defines a transpose.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiparallel.spec import (
    Conv,
    ConvTranspose,
    Dense,
    Feedback,
    Geometry,
    backward,
    feedback_scale,
    forward,
)
from antiparallel.spec.contract import Array

Index = tuple[int, ...]
FLOAT64 = np.dtype(np.float64)
slow_machine = settings(deadline=None, max_examples=150)


class Case(NamedTuple):
    """A layer, and the shape of its input."""

    geometry: Geometry
    shape: Index


@st.composite
def dense_cases(draw: st.DrawFn) -> Case:
    geometry = Dense(draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    leading = draw(st.lists(st.integers(0, 3), max_size=3))
    return Case(geometry, (*leading, geometry.n_in))


@st.composite
def convolution_cases(draw: st.DrawFn, transposed: bool) -> Case:
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def sizes(least: int, most: int) -> Index:
        return draw(st.tuples(*[st.integers(least, most)] * rank))

    kernel, stride, dilation = sizes(1, 3), sizes(1, 3), sizes(1, 2)
    pairs = draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * rank))
    paddings = [st.just(pairs), st.just("valid"), st.just(tuple(before for before, _ in pairs))]
    padding = draw(st.one_of(paddings if transposed else [*paddings, st.just("same")]))
    channels = {"n_in": groups * draw(st.integers(1, 2)), "n_out": groups * draw(st.integers(1, 2))}
    settings = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if transposed:
        steps = zip(stride, dilation, strict=True)
        extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in steps)
        geometry = ConvTranspose(**channels, **settings, groups=groups, output_padding=extra)
        cut = [
            sum(pad) - full - e + 1
            for pad, full, e in zip(geometry.pads(), extents, extra, strict=True)
        ]
        least = [1 + max(0, -(-c // s)) for c, s in zip(cut, stride, strict=True)]
    else:
        geometry = Conv(**channels, **settings, groups=groups)
        pads = [(0, full) for full in extents] if padding == "same" else geometry.pads((1,) * rank)
        least = [max(1, full - sum(pad)) for full, pad in zip(extents, pads, strict=True)]
    spatial = tuple(draw(st.integers(n, n + 2)) for n in least)
    return Case(geometry, (draw(st.integers(0, 2)), geometry.n_in, *spatial))


cases = st.one_of(
    dense_cases(), convolution_cases(transposed=False), convolution_cases(transposed=True)
)


def connections(geometry: Geometry, shape: Index) -> Iterator[tuple[Index, Index, Index]]:
    """List which weight leads from which input to which output, as N3, N4 and N6 write it."""
    if isinstance(geometry, Dense):
        for lead in product(*map(range, shape[:-1])):
            for j, i in product(range(geometry.n_out), range(geometry.n_in)):
                yield (j, i), (*lead, i), (*lead, j)
        return
    per_group_in = geometry.n_in // geometry.groups
    per_group_out = geometry.n_out // geometry.groups
    places = list(_places(geometry, shape[2:]))
    for n, j, i in product(range(shape[0]), range(geometry.n_out), range(per_group_in)):
        channel = j // per_group_out * per_group_in + i
        for tap, at, to in places:
            yield (j, i, *tap), (n, channel, *at), (n, j, *to)


def _places(geometry: Conv | ConvTranspose, spatial: Index) -> Iterator[tuple[Index, Index, Index]]:
    """List which tap leads from which place of the input to which place of the output."""
    outputs = geometry.output_shape((1, geometry.n_in, *spatial))[2:]
    transposed = isinstance(geometry, ConvTranspose)
    pads = geometry.pads() if transposed else geometry.pads(spatial)
    walked = spatial if transposed else outputs  # what the stride steps over
    reached = outputs if transposed else spatial
    for step, tap in product(product(*map(range, walked)), product(*map(range, geometry.kernel))):
        place = tuple(
            q * s + t * d - before
            for q, s, t, d, (before, _) in zip(
                step, geometry.strides, tap, geometry.dilations, pads, strict=True
            )
        )
        if all(0 <= p < n for p, n in zip(place, reached, strict=True)):
            yield (tap, step, place) if transposed else (tap, place, step)


def sum_of_products(
    shape: Index, terms: Iterator[tuple[Index, np.floating, np.floating]], eps: float
) -> tuple[Array, Array]:
    """Sum products into places, in plain loops, and bound the rounding error by N7."""
    total, magnitude, count = np.zeros(shape), np.zeros(shape), Counter[Index]()
    for place, a, b in terms:
        total[place] += float(a) * float(b)
        magnitude[place] += abs(float(a) * float(b))
        count[place] += 1
    number = np.zeros(shape)
    for place, terms_there in count.items():
        number[place] = terms_there
    return total, (number + 2) * (eps + np.finfo(np.float64).eps) * magnitude


def arrays_for(case: Case, dtype: np.dtype[Any], seed: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    geometry = case.geometry
    shapes = {
        "x": case.shape,
        "weight": geometry.weight_shape,
        "bias": (geometry.n_out,),
        "error": geometry.output_shape(case.shape),
        "feedback": geometry.weight_shape,
    }
    return {name: generator.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def assert_within(got: Array, expected: tuple[Array, Array], dtype: np.dtype[Any]) -> None:
    exact, bound = expected
    assert got.dtype == dtype
    assert got.shape == exact.shape
    assert (np.abs(got - exact) <= bound).all()


@slow_machine
@given(cases, st.sampled_from(["float32", "float64"]), st.integers(0, 9))
@pytest.mark.clause("N1", "N2", "N3", "N4", "N5", "N6", "N7", "F1")
def test_forward_sums_over_the_connections_that_the_text_writes_down(
    case: Case, name: str, seed: int
) -> None:
    dtype = np.dtype(name)
    a = arrays_for(case, dtype, seed)
    y = forward(case.geometry, a["x"], a["weight"], a["bias"])

    def terms() -> Iterator[tuple[Index, np.floating, np.floating]]:
        for place in np.ndindex(*y.shape):
            yield place, a["bias"][place[channel_axis(case.geometry)]], np.float64(1)
        for w, i, o in connections(case.geometry, case.shape):
            yield o, a["weight"][w], a["x"][i]

    assert_within(
        y, sum_of_products(case.geometry.output_shape(case.shape), terms(), eps(dtype)), dtype
    )


@slow_machine
@given(cases, st.sampled_from(["float32", "float64"]), st.integers(0, 9))
@pytest.mark.clause("F2", "F3", "F4", "N7")
def test_backward_is_equation_2_in_plain_loops(case: Case, name: str, seed: int) -> None:
    dtype = np.dtype(name)
    a = arrays_for(case, dtype, seed)
    gradients = backward(case.geometry, a["x"], a["error"], a["feedback"])
    links = list(connections(case.geometry, case.shape))
    to_input = ((i, a["feedback"][w], a["error"][o]) for w, i, o in links)
    assert_within(gradients.input, sum_of_products(case.shape, to_input, eps(dtype)), dtype)
    to_weight = ((w, a["x"][i], a["error"][o]) for w, i, o in links)
    shape = case.geometry.weight_shape
    assert_within(gradients.weight, sum_of_products(shape, to_weight, eps(dtype)), dtype)
    places = np.ndindex(*a["error"].shape)
    to_bias = (((o[channel_axis(case.geometry)],), a["error"][o], np.float64(1)) for o in places)
    bias = sum_of_products((case.geometry.n_out,), to_bias, eps(dtype))
    assert_within(gradients.bias, bias, dtype)


def channel_axis(geometry: Geometry) -> int:
    return -1 if isinstance(geometry, Dense) else 1


def eps(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype).eps)


@settings(deadline=None, max_examples=60)
@given(cases, st.integers(0, 9))
@pytest.mark.clause("F2", "F3", "F4", "R1")
def test_with_b_equal_to_w_backward_agrees_with_finite_differences(case: Case, seed: int) -> None:
    # E = <error, y> is linear in each of x, W and b, so a central difference with step 1 has no
    # error of truncation: what remains is the rounding of sums with a few hundred terms.
    a = arrays_for(case, FLOAT64, seed)
    gradients = backward(case.geometry, a["x"], a["error"], a["weight"])

    def energy(name: str, array: Array) -> float:
        changed = a | {name: array}
        y = forward(case.geometry, changed["x"], changed["weight"], changed["bias"])
        return float((y * a["error"]).sum())

    products = prod(a["error"].shape) * (prod(case.geometry.weight_shape[1:]) + 1)
    largest = max(float(np.abs(array).max(initial=1)) + 1 for array in a.values())
    tolerance = (products + 2) * eps(FLOAT64) * products * largest**3
    for name, gradient in (("x", 0), ("weight", 1), ("bias", 2)):
        differences = central_differences(lambda array, name=name: energy(name, array), a[name])
        assert np.abs(differences - gradients[gradient]).max(initial=0) <= tolerance


def central_differences(function: Callable[[Array], float], at: Array) -> Array:
    differences = np.empty_like(at)
    for place in np.ndindex(*at.shape):
        step = np.zeros_like(at)
        step[place] = 1
        differences[place] = (function(at + step) - function(at - step)) / 2
    return differences


@slow_machine
@given(cases, st.integers(0, 9))
@pytest.mark.clause("F3")
def test_the_error_sent_back_is_the_transpose_of_the_forward_map_of_b(
    case: Case, seed: int
) -> None:
    a = arrays_for(case, FLOAT64, seed)
    sent = backward(case.geometry, a["x"], a["error"], a["feedback"]).input
    left = (sent * a["x"]).sum()
    right = (a["error"] * forward(case.geometry, a["x"], a["feedback"])).sum()
    sizes = [np.abs(a[name]) for name in ("x", "error", "feedback")]
    magnitude = (sizes[1] * forward(case.geometry, sizes[0], sizes[2])).sum()
    terms = a["x"].size * a["feedback"].size + a["error"].size
    assert abs(left - right) <= 2 * terms * eps(FLOAT64) * magnitude


@slow_machine
@given(cases, st.integers(0, 9))
@pytest.mark.clause("F4")
def test_gradients_of_parameters_do_not_depend_on_b(case: Case, seed: int) -> None:
    a = arrays_for(case, FLOAT64, seed)
    one = backward(case.geometry, a["x"], a["error"], a["feedback"])
    other = backward(case.geometry, a["x"], a["error"], a["weight"])
    assert np.array_equal(one.weight, other.weight)
    assert np.array_equal(one.bias, other.bias)


@pytest.mark.parametrize("name", ["dense", "convolution", "transposed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.clause("F2", "F3", "F4", "N3", "N4", "N6")
def test_the_worked_examples_come_out_as_printed(
    example: Callable[[str], Any], name: str, dtype: type[np.floating]
) -> None:
    printed = example(name)
    geometry = printed["layer"]
    weight, bias, x, error = (np.array(printed[key], dtype) for key in ("W", "b", "x", "error"))
    assert forward(geometry, x, weight, bias).tolist() == printed["y"]
    assert feedback_scale(geometry) == printed["lambda"]
    for rule, dx in printed["dx"].items():
        gradients = backward(geometry, x, error, Feedback(rule, geometry, weight).matrix(weight))
        assert gradients.input.tolist() == dx
        assert gradients.weight.tolist() == printed["dW"]
        assert gradients.bias.tolist() == printed["db"]


@pytest.mark.clause("N5")
def test_same_padding_comes_out_as_printed(example: Callable[[str], Any]) -> None:
    for row in example("same-padding"):
        geometry = Conv(1, 1, (row["kernel"],), row["stride"], "same", row["dilation"])
        assert list(geometry.pads((row["size"],))[0]) == row["pads"]
        assert geometry.output_shape((1, 1, row["size"])) == (1, 1, row["places"])


@pytest.mark.clause("N4")
def test_a_number_pads_both_sides_and_valid_pads_none() -> None:
    assert Conv(1, 1, (3, 3), padding=2).pads((5, 5)) == ((2, 2), (2, 2))
    assert Conv(1, 1, (3, 3), padding=(0, 2)).pads((5, 5)) == ((0, 0), (2, 2))
    assert Conv(1, 1, (3, 3), padding="valid").pads((5, 5)) == ((0, 0), (0, 0))


@pytest.mark.clause("N2")
def test_weights_convert_to_pytorchs_transposed_layout_as_the_table_says() -> None:
    # PyTorch's ConvTranspose weight is that of the convolution which it transposes.
    layer, convolution = ConvTranspose(6, 4, (3,), groups=2), Conv(4, 6, (3,), groups=2)
    weight = np.random.default_rng(0).normal(size=layer.weight_shape)
    stored = weight.reshape(2, 2, 3, 3).swapaxes(1, 2).reshape(6, 2, 3)
    x = np.random.default_rng(1).normal(size=(2, 6, 5))
    y = forward(layer, x, weight)
    sent = backward(convolution, np.zeros(y.shape), x, stored).input
    np.testing.assert_array_equal(y, sent)


@pytest.mark.clause("N2")
def test_weights_convert_to_keras_layouts_as_the_table_says() -> None:
    # In Keras, out[p, j] = sum over taps and channels of in[p + t, i] kernel[t, i, j].
    geometry = Conv(3, 4, (2, 5))
    weight = np.random.default_rng(0).integers(-9, 10, geometry.weight_shape).astype(float)
    kernel = np.moveaxis(weight, (1, 0), (-2, -1))
    assert kernel.shape == (2, 5, 3, 4)
    x = np.random.default_rng(1).integers(-9, 10, (1, 3, 2, 5)).astype(float)
    expected = np.tensordot(np.moveaxis(x[0], 0, -1), kernel, axes=3)
    assert np.array_equal(forward(geometry, x, weight)[0, :, 0, 0], expected)


@settings(deadline=None, max_examples=50)
@given(cases)
@pytest.mark.clause("N8")
def test_an_empty_batch_gives_empty_errors_and_zero_gradients(case: Case) -> None:
    empty = Case(case.geometry, (0, *case.shape[1:])) if len(case.shape) > 1 else case
    a = arrays_for(empty, np.dtype(np.float32), 0)
    y = forward(empty.geometry, a["x"], a["weight"], a["bias"])
    assert y.shape == empty.geometry.output_shape(empty.shape)
    gradients = backward(empty.geometry, a["x"], a["error"], a["weight"])
    assert gradients.input.shape == empty.shape
    if len(case.shape) > 1:
        assert not gradients.weight.any()
        assert not gradients.bias.any()


@settings(deadline=None, max_examples=50)
@given(cases, st.integers(0, 9))
@pytest.mark.clause("N9")
def test_memory_order_does_not_matter_and_arguments_are_not_changed(case: Case, seed: int) -> None:
    # Sums of products of small integers are exact in any order of summation.
    a = {name: np.round(9 * array) for name, array in arrays_for(case, FLOAT64, seed).items()}
    spread = {name: spread_out(array) for name, array in a.items()}
    results = [
        (
            forward(case.geometry, b["x"], b["weight"], b["bias"]),
            *backward(case.geometry, b["x"], b["error"], b["feedback"]),
        )
        for b in (a, spread)
    ]
    assert all(map(np.array_equal, *results))
    assert all(np.array_equal(spread[name], array) for name, array in a.items())


def spread_out(array: Array) -> Array:
    """The same numbers in Fortran order, a step apart, read-only."""
    wide = np.full((2 * array.shape[0], *array.shape[1:]), np.nan, order="F")
    view = wide[::2]
    view[...] = array
    view.flags.writeable = False
    return view


@pytest.mark.clause("N7")
def test_overflow_gives_infinity_in_silence() -> None:
    big = np.full((1, 2), 1e30, np.float32)
    assert np.isposinf(forward(Dense(2, 1), big, big)).all()
    sent = backward(Dense(2, 1), big, np.array([[1e30]], np.float32), big)
    assert np.isposinf(sent.input).all()
    assert np.isposinf(sent.weight).all()


@pytest.mark.clause("F4")
def test_a_layer_without_bias_has_no_gradient_for_it() -> None:
    x, weight = np.ones((1, 2)), np.ones((3, 2))
    assert backward(Dense(2, 3), x, np.ones((1, 3)), weight, bias=False).bias is None
