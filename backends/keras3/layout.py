"""A Keras weight layer in the specification's terms: geometry, layout and draws of its kernels.

Keras keeps channels last in its kernels; the canonical layout is ``(n_out, n_in / groups,
*kernel)`` for every kind. Most layers have one kernel. A separable convolution has two, a
depthwise and a pointwise one, which count as two weight layers, one after the other. A depthwise
kernel is that of a convolution with as many groups as inputs.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from keras import layers
from numpy.typing import NDArray

from antiparallel.spec import Conv, ConvTranspose, Dense, Geometry, UnsupportedError
from antiparallel.spec.draws import Purpose, draw

WeightLayer: TypeAlias = (
    layers.Dense
    | layers.EinsumDense
    | layers.Conv1D
    | layers.Conv2D
    | layers.Conv3D
    | layers.DepthwiseConv1D
    | layers.DepthwiseConv2D
    | layers.SeparableConv1D
    | layers.SeparableConv2D
    | layers.Conv1DTranspose
    | layers.Conv2DTranspose
    | layers.Conv3DTranspose
)
"""The kinds of layer that the specification covers."""

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)


@dataclass(frozen=True)
class Kernel:
    """One kernel of a layer.

    Args:
        name: The layer's attribute.
        shape: Its shape as Keras keeps it.
        geometry: What lambda and draws depend on: kind, channels, kernel and groups.
        order: Keras's axes in canonical order: outputs, inputs, kernel.
    """

    name: str
    shape: tuple[int, ...]
    geometry: Geometry
    order: tuple[int, ...]

    def to_canonical(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the kernel's shape in the canonical layout."""
        return array.transpose(self.order).reshape(self.geometry.weight_shape)

    def from_canonical(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array in the canonical layout as Keras keeps this kernel."""
        ordered = array.reshape([self.shape[axis] for axis in self.order])
        return ordered.transpose(np.argsort(self.order))


def kernels(layer: WeightLayer) -> tuple[Kernel, ...]:
    """Return the kernels of a built layer.

    Raises:
        UnsupportedError: The layer is not built and has no shapes yet, or it is an
            ``EinsumDense`` that is no dense layer.
    """
    if not layer.built:
        raise UnsupportedError(
            "Expected a built layer: call the model once, or build it. "
            f"Received: layer={layer.name!r}"
        )
    if isinstance(layer, layers.EinsumDense):
        return (_einsum(layer),)
    if isinstance(layer, SEPARABLE):
        depthwise, pointwise = layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
        return _depthwise("depthwise_kernel", depthwise), _conv("pointwise_kernel", pointwise, 1)
    shape = tuple(layer.kernel.shape)
    if isinstance(layer, layers.Dense):
        return (Kernel("kernel", shape, Dense(*shape), (1, 0)),)
    if isinstance(layer, DEPTHWISE):
        return (_depthwise("kernel", shape),)
    if isinstance(layer, TRANSPOSED):
        *sizes, n_out, n_in = shape
        rank = len(sizes)
        geometry = ConvTranspose(n_in, n_out, tuple(sizes))
        return (Kernel("kernel", shape, geometry, (rank, rank + 1, *range(rank))),)
    return (_conv("kernel", shape, layer.groups),)


def draw_like(
    kernel: Kernel,
    dtype: str,
    scale: float,
    *,
    seed: int,
    index: int,
    purpose: Purpose,
    count: int = 0,
) -> NDArray[Any]:
    """Return a draw of the specification's in the layout of a kernel.

    Args:
        kernel: The kernel.
        dtype: Its dtype; numbers for one narrower than float32 are returned in float32, from
            which the specification rounds to it.
        scale: Its lambda.
        seed: The experiment's seed.
        index: The kernel's place among the model's weight layers.
        purpose: What the numbers are for.
        count: How many draws for this purpose came before.
    """
    numbers = draw(
        kernel.geometry,
        scale,
        seed=seed,
        index=index,
        purpose=purpose,
        count=count,
        dtype="float64" if dtype == "float64" else "float32",
    )
    return np.ascontiguousarray(kernel.from_canonical(numbers))


def _conv(name: str, shape: tuple[int, ...], groups: int) -> Kernel:
    *sizes, n_in, n_out = shape
    rank = len(sizes)
    geometry = Conv(n_in * groups, n_out, tuple(sizes), groups=groups)
    return Kernel(name, tuple(shape), geometry, (rank + 1, rank, *range(rank)))


def _depthwise(name: str, shape: tuple[int, ...]) -> Kernel:
    *sizes, n_in, multiplier = shape
    rank = len(sizes)
    geometry = Conv(n_in, n_in * multiplier, tuple(sizes), groups=n_in)
    return Kernel(name, tuple(shape), geometry, (rank, rank + 1, *range(rank)))


def _einsum(layer: layers.EinsumDense) -> Kernel:
    """Return the kernel as a matrix: axes that the output has are outputs, the rest inputs."""
    inputs, kernel, outputs = layer.equation.replace("->", ",").replace(" ", "").split(",")
    if shared := set(kernel) & set(inputs) & set(outputs):
        raise UnsupportedError(
            "Expected an equation in which each axis of the kernel is of the input or of the "
            f"output, not of both ({', '.join(sorted(shared))}). "
            f"Received: equation={layer.equation!r}"
        )
    to_output = tuple(axis for axis, letter in enumerate(kernel) if letter in outputs)
    to_input = tuple(axis for axis, letter in enumerate(kernel) if letter not in outputs)
    shape = tuple(layer.kernel.shape)
    n_out, n_in = (prod(shape[axis] for axis in axes) for axes in (to_output, to_input))
    return Kernel("kernel", shape, Dense(n_in, n_out), (*to_output, *to_input))
