"""Hypothesis strategies for cases: small layers of every kind, awkward numbers and memory."""

from dataclasses import replace
from math import prod
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from antiparallel.conformance.cases import ArraysCase, LayerCase, SGDCase, WeightCase
from antiparallel.spec import RULES, Conv, ConvTranspose, Dense, Geometry
from antiparallel.spec.contract import SGDConfig
from antiparallel.spec.geometry import Padding

_Value = TypeVar("_Value")

LARGEST_WORD = 2**64 - 1

dtypes = st.sampled_from(["float64", "float32"])
memories = st.sampled_from(["C", "F", "strided", "reversed", "read-only"])
weight_values = st.sampled_from(["normal", "zeros", "ties", "subnormal", "huge"])
activation_values = st.sampled_from(["normal", "zeros", "ties", "tiny"])
scales = st.sampled_from(["paper", "reference-code", 0.3])
words = st.one_of(st.integers(0, 3), st.integers(0, LARGEST_WORD))
rules = st.sampled_from(list(RULES))
sign_rules = st.sampled_from(["ss", "ss-fixed", "ss-batch", "fa-sign"])
drawn_rules = st.sampled_from(["ss-fixed", "fa", "fa-sign"])
conventions = st.sampled_from(["paper", "reference-code"])
data_seeds = st.integers(0, 999)


def dense_layers() -> SearchStrategy[Dense]:
    """Dense layers with up to 5 inputs and outputs."""
    return st.builds(Dense, st.integers(1, 5), st.integers(1, 5))


@st.composite
def convolutions(draw: st.DrawFn) -> Conv:
    """Convolutions of rank 1 to 3 with every kind of padding."""
    rank = draw(st.sampled_from([2, 1, 3]))
    groups, n_in, n_out, kernel = draw(_channels_and_kernel(rank))
    stride = draw(_one_or_each(st.integers(1, 3), rank))
    dilation = draw(_one_or_each(st.integers(1, 2), rank))
    padding: Padding = draw(st.one_of(_paddings(rank), st.just("same")))
    return Conv(n_in, n_out, kernel, stride, padding, dilation, groups)


def same_convolutions() -> SearchStrategy[Conv]:
    """Convolutions with padding ``"same"``."""
    return convolutions().map(lambda conv: replace(conv, padding="same"))


def large_kernels() -> SearchStrategy[Conv]:
    """Convolutions for which an input of one place is too small."""
    kernel = st.one_of(*[st.tuples(*[st.integers(2, 3)] * rank) for rank in (2, 1)])
    return kernel.map(lambda sizes: Conv(1, 1, sizes))


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> ConvTranspose:
    """Transposed convolutions of rank 1 to 3, with output padding."""
    rank = draw(st.sampled_from([2, 1, 3]))
    groups, n_in, n_out, kernel = draw(_channels_and_kernel(rank))
    stride = draw(_one_or_each(st.integers(1, 3), rank))
    dilation = draw(_one_or_each(st.integers(1, 2), rank))
    padding = draw(_paddings(rank))
    strides = (stride,) * rank if isinstance(stride, int) else stride
    dilations = (dilation,) * rank if isinstance(dilation, int) else dilation
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True)
    )
    return ConvTranspose(n_in, n_out, kernel, stride, padding, dilation, groups, extra)


def geometries() -> SearchStrategy[Geometry]:
    """Layers of every kind."""
    return st.one_of(dense_layers(), convolutions(), transposed_convolutions())


@st.composite
def layer_cases(
    draw: st.DrawFn, /, kinds: SearchStrategy[Geometry] | None = None, **fixed: Any
) -> LayerCase:
    """Cases of one layer; not of empty batches, which would leave most checks nothing to see.

    Args:
        draw: Given by hypothesis.
        kinds: Strategy for the geometry; every kind by default.
        **fixed: Fields of LayerCase, as values or as strategies.
    """
    geometry = draw(geometries() if kinds is None else kinds)
    if isinstance(geometry, Dense):
        leadings: SearchStrategy[tuple[int, ...]] = st.sampled_from([(2,), (3,), (), (2, 3)])
    else:
        leadings = st.sampled_from([(2,), (1,), (3,)])
    drives: dict[str, Any] = {
        "rule": rules,
        "dtype": dtypes,
        "leading": leadings,
        "spatial": _spatial_sizes(geometry),
        "scale": scales,
        "seed": words,
        "index": words,
        "bias": st.booleans(),
        "weights": weight_values,
        "activations": activation_values,
        "memory": memories,
        "data": data_seeds,
    } | fixed
    return LayerCase(geometry, **{name: draw(_as_strategy(v)) for name, v in drives.items()})


def arrays_cases(**fixed: Any) -> SearchStrategy[ArraysCase]:
    """Cases of which only the arrays are used; arguments as for ``layer_cases``."""
    return layer_cases(**fixed).map(lambda case: ArraysCase(**vars(case)))


@st.composite
def weight_cases(
    draw: st.DrawFn, /, kinds: SearchStrategy[Geometry] | None = None, **fixed: Any
) -> WeightCase:
    """Cases of initial weights; arguments as for ``layer_cases``."""
    geometry = draw(geometries() if kinds is None else kinds)
    drives = {"dtype": dtypes, "scale": scales, "seed": words, "index": words} | fixed
    return WeightCase(geometry, **{name: draw(_as_strategy(v)) for name, v in drives.items()})


@st.composite
def sgd_cases(draw: st.DrawFn, /, **fixed: Any) -> SGDCase:
    """Cases of the optimizer.

    Args:
        draw: Given by hypothesis.
        **fixed: Fields of SGDConfig and SGDCase, as values or as strategies.
    """
    momentum = draw(_as_strategy(fixed.get("momentum", st.sampled_from([0.0, 0.9]))))
    settings: dict[str, Any] = {
        "lr": st.sampled_from([0.1, 0.5, 0.0]),
        "weight_decay": st.sampled_from([0.0, 0.01]),
        "nesterov": st.booleans() if momentum > 0 else False,
        "batch_manhattan": False,
        "keep_signs": False,
    }
    drives: dict[str, Any] = {
        "dtype": dtypes,
        "weights": st.sampled_from(["normal", "zeros", "ties", "subnormal"]),
        "gradients": st.sampled_from(["normal", "zeros", "ties", "tiny"]),
        "memory": memories,
        "steps": st.integers(1, 5),
        "data": data_seeds,
    }
    chosen = {
        name: draw(_as_strategy(fixed.get(name, drive)))
        for name, drive in (settings | drives).items()
    }
    config = SGDConfig(momentum=momentum, **{name: chosen.pop(name) for name in settings})
    return SGDCase(config, **chosen)


def _as_strategy(value: SearchStrategy[_Value] | _Value) -> SearchStrategy[_Value]:
    return value if isinstance(value, SearchStrategy) else st.just(value)


@st.composite
def _channels_and_kernel(draw: st.DrawFn, rank: int) -> tuple[int, int, int, tuple[int, ...]]:
    groups = draw(st.integers(1, 3))
    n_in, n_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    return groups, n_in, n_out, tuple(draw(st.integers(1, 3)) for _ in range(rank))


def _one_or_each(number: SearchStrategy[int], rank: int) -> SearchStrategy[Any]:
    return st.one_of(number, st.tuples(*[number] * rank))


def _paddings(rank: int) -> SearchStrategy[Any]:
    number = st.integers(0, 2)
    pairs = st.tuples(*[st.tuples(number, number)] * rank)
    return st.one_of(_one_or_each(number, rank), pairs, st.just("valid"))


def _spatial_sizes(geometry: Geometry) -> SearchStrategy[tuple[int, ...]]:
    """Sizes from the smallest that gives an output up to two more, fewer in three dimensions."""
    if isinstance(geometry, Dense):
        return st.just(())
    least = tuple(_least_size(geometry, axis) for axis in range(geometry.rank))
    more = 2 if prod(geometry.kernel) < 9 else 1
    return st.tuples(*[st.integers(size, size + more) for size in least])


def _least_size(geometry: Conv | ConvTranspose, axis: int) -> int:
    reach = geometry.dilations[axis] * (geometry.kernel[axis] - 1) + 1
    if isinstance(geometry, Conv):
        if geometry.padding == "same":
            return 1
        return max(1, reach - sum(geometry.pads(())[axis]))
    cut = sum(geometry.pads()[axis]) - geometry.output_paddings[axis]
    return 1 + max(0, -((reach - cut - 1) // geometry.strides[axis]))
