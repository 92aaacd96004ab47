"""Convolutions in one to three dimensions, their transposes, and their gradients.

A convolution without bias is linear in its input and in its weights. Three functions carry
everything here: the map itself, its transpose with respect to the input, and its transpose
with respect to the weights. A transposed convolution is the second one run forward, so each of
its three is one of the three of the convolution that it transposes (SPEC.md, N4, N6, F3, F4).
"""

from itertools import product
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from antiparallel.spec.contract import Array
from antiparallel.spec.geometry import Conv, ConvTranspose, Pairs

Sizes: TypeAlias = tuple[int, ...]
Index: TypeAlias = tuple[slice | int, ...]

_BATCH_AND_CHANNELS: Index = (slice(None), slice(None))


def forward(geometry: Conv | ConvTranspose, x: Array, weight: Array) -> Array:
    """Return the output without bias, ``(batch, n_out, *spatial)``.

    Args:
        geometry: The layer.
        x: ``(batch, n_in, *spatial)``.
        weight: ``(n_out, n_in / groups, *kernel)``.
    """
    spatial = geometry.output_shape(x.shape)[2:]
    if isinstance(geometry, Conv):
        return _correlate(geometry, x, weight, spatial)
    return _spread(_transposed(geometry), x, _swap(weight, geometry.groups), spatial)


def send_back(
    geometry: Conv | ConvTranspose, error: Array, feedback: Array, spatial: Sizes
) -> Array:
    """Return the error sent to the input: the transpose of ``forward``, with B as its weights.

    Args:
        geometry: The layer.
        error: dE/dy, ``(batch, n_out, *spatial of the output)``.
        feedback: B, ``(n_out, n_in / groups, *kernel)``.
        spatial: Spatial sizes of the input.
    """
    if isinstance(geometry, Conv):
        return _spread(geometry, error, feedback, spatial)
    return _correlate(_transposed(geometry), error, _swap(feedback, geometry.groups), spatial)


def weight_gradient(geometry: Conv | ConvTranspose, x: Array, error: Array) -> Array:
    """Return dE/dW, ``(n_out, n_in / groups, *kernel)``."""
    if isinstance(geometry, Conv):
        return _collect(geometry, x, error)
    # The convolution that is transposed reads the output and writes the input.
    return _swap(_collect(_transposed(geometry), error, x), geometry.groups)


def _correlate(conv: Conv, x: Array, weight: Array, outputs: Sizes) -> Array:
    """Multiply every window of x by the weights."""
    y = _matrices(conv, weight) @ _columns(conv, x, outputs)
    return y.reshape(len(x), conv.n_out, *outputs)


def _spread(conv: Conv, y: Array, weight: Array, spatial: Sizes) -> Array:
    """Add every output, times the weights, to the window that it came from."""
    outputs, pads = y.shape[2:], conv.pads(spatial)
    columns = _matrices(conv, weight).swapaxes(1, 2) @ _rows(conv, y)
    taps = columns.reshape(len(y), conv.n_in, *conv.kernel, *outputs)
    padded = np.zeros((len(y), conv.n_in, *_padded_sizes(spatial, pads)), dtype=taps.dtype)
    for tap in product(*map(range, conv.kernel)):
        starts = tuple(t * d for t, d in zip(tap, conv.dilations, strict=True))
        reached = _places(starts, outputs, conv.strides)
        padded[reached] += taps[(*_BATCH_AND_CHANNELS, *tap)]
    return padded[_inside(spatial, pads)]


def _collect(conv: Conv, x: Array, y: Array) -> Array:
    """Multiply every window of x by the output that came from it, and add up."""
    columns = _columns(conv, x, y.shape[2:])
    gradient: Array = (_rows(conv, y) @ columns.swapaxes(2, 3)).sum(axis=0)
    return gradient.reshape(conv.weight_shape)


def _columns(conv: Conv, x: Array, outputs: Sizes) -> Array:
    """Return the windows of x: ``(batch, groups, n_in / groups * taps, prod(outputs))``."""
    spatial, rank = x.shape[2:], conv.rank
    pads = conv.pads(spatial)
    padded = np.zeros((*x.shape[:2], *_padded_sizes(spatial, pads)), dtype=x.dtype)
    padded[_inside(spatial, pads)] = x
    extents = tuple(d * (k - 1) + 1 for d, k in zip(conv.dilations, conv.kernel, strict=True))
    windows = sliding_window_view(padded, extents, tuple(range(2, 2 + rank)))
    spaced = tuple(slice(None, None, d) for d in conv.dilations)
    windows = windows[_places((0,) * rank, outputs, conv.strides) + spaced]
    taps_first = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    rows = conv.n_in // conv.groups * prod(conv.kernel)
    return windows.transpose(taps_first).reshape(len(x), conv.groups, rows, prod(outputs))


def _rows(conv: Conv, y: Array) -> Array:
    """Return outputs as ``(batch, groups, n_out / groups, prod(outputs))``."""
    return y.reshape(len(y), conv.groups, conv.n_out // conv.groups, prod(y.shape[2:]))


def _matrices(conv: Conv, weight: Array) -> Array:
    """Return weights as ``(groups, n_out / groups, n_in / groups * taps)``."""
    return weight.reshape(conv.groups, conv.n_out // conv.groups, -1)


def _padded_sizes(spatial: Sizes, pads: Pairs) -> Sizes:
    return tuple(n + sum(pad) for n, pad in zip(spatial, pads, strict=True))


def _inside(spatial: Sizes, pads: Pairs) -> Index:
    """Index the unpadded part of a padded array."""
    return _places(tuple(before for before, _ in pads), spatial, (1,) * len(spatial))


def _places(starts: Sizes, counts: Sizes, strides: Sizes) -> Index:
    """Index that many places from each start, a stride apart."""
    return (
        *_BATCH_AND_CHANNELS,
        *(
            slice(start, start + (n - 1) * s + 1, s)
            for start, n, s in zip(starts, counts, strides, strict=True)
        ),
    )


def _transposed(layer: ConvTranspose) -> Conv:
    """Return the convolution that the layer is the transpose of."""
    return Conv(
        n_in=layer.n_out,
        n_out=layer.n_in,
        kernel=layer.kernel,
        stride=layer.stride,
        padding=layer.pads(),
        dilation=layer.dilation,
        groups=layer.groups,
    )


def _swap(weight: Array, groups: int) -> Array:
    """Exchange input and output channels within each group."""
    outputs, inputs, *kernel = weight.shape
    grouped = weight.reshape(groups, outputs // groups, inputs, *kernel)
    return grouped.swapaxes(1, 2).reshape(groups * inputs, outputs // groups, *kernel)
