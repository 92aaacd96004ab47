"""A torch weight layer in the specification's terms: its geometry, its weights' layout, its draws.

Torch stores the weights of a transposed convolution as ``(n_in, n_out / groups, *kernel)``; the
canonical layout is ``(n_out, n_in / groups, *kernel)`` for every kind.
"""

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from antiparallel.spec import Conv, ConvTranspose, Dense, Geometry, UnsupportedError
from antiparallel.spec.draws import Purpose, draw

WeightLayer: TypeAlias = (
    nn.Linear
    | nn.Conv1d
    | nn.Conv2d
    | nn.Conv3d
    | nn.ConvTranspose1d
    | nn.ConvTranspose2d
    | nn.ConvTranspose3d
)
"""The kinds of layer that the specification covers."""

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def geometry(layer: WeightLayer) -> Geometry:
    """Return what lambda and draws depend on: kind, channels, kernel and groups.

    Raises:
        UnsupportedError: The layer is lazy and has no shape yet.
    """
    if isinstance(layer, LazyModuleMixin):
        raise UnsupportedError(
            "Expected weights with a shape: run a lazy layer once, so that it becomes an ordinary "
            f"one. Received: layer={layer}"
        )
    if isinstance(layer, nn.Linear):
        return Dense(layer.in_features, layer.out_features)
    kind = ConvTranspose if isinstance(layer, _TRANSPOSED) else Conv
    return kind(
        n_in=layer.in_channels,
        n_out=layer.out_channels,
        kernel=tuple(layer.kernel_size),
        groups=layer.groups,
    )


def to_canonical(layer: WeightLayer, tensor: Tensor) -> Tensor:
    """Return a tensor of the weights' shape in the canonical layout."""
    return _swap(tensor, layer.groups) if isinstance(layer, _TRANSPOSED) else tensor


def from_canonical(layer: WeightLayer, tensor: Tensor) -> Tensor:
    """Return a tensor in the canonical layout as torch keeps this layer's weights."""
    return _swap(tensor, layer.groups) if isinstance(layer, _TRANSPOSED) else tensor


def weight_of(layer: WeightLayer) -> Tensor:
    """Return W, detached; reading it does not step a parametrization such as spectral norm."""
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.weight.detach()
    chain: Any = layer.get_submodule("parametrizations.weight")
    training = [module for module in chain.modules() if module.training]
    try:
        chain.eval()
        with torch.no_grad():
            return layer.weight.detach()
    finally:
        for module in training:
            module.training = True


def output_padding(layer: Any, x: Tensor, output_size: list[int] | None) -> tuple[int, ...]:
    """Return a transposed convolution's output padding for an input and a wanted output size."""
    rank = len(layer.kernel_size)
    return tuple(
        layer._output_padding(
            x, output_size, layer.stride, layer.padding, layer.kernel_size, rank, layer.dilation
        )
    )


def draw_like(
    layer: WeightLayer,
    weight: Tensor,
    scale: float,
    *,
    seed: int,
    index: int,
    purpose: Purpose,
    count: int = 0,
) -> Tensor:
    """Return a draw of the specification's as a tensor like the layer's weights.

    Args:
        layer: The layer.
        weight: Its weights, which give shape, memory format, dtype and device.
        scale: Its lambda.
        seed: The experiment's seed.
        index: The layer's place among the model's weight layers.
        purpose: What the numbers are for.
        count: How many draws for this purpose came before.
    """
    values = draw(
        geometry(layer),
        scale,
        seed=seed,
        index=index,
        purpose=purpose,
        count=count,
        # The specification rounds to dtypes narrower than float32 from there.
        dtype="float64" if weight.dtype == torch.float64 else "float32",
    )
    numbers = from_canonical(layer, torch.from_numpy(values))
    return torch.empty_like(weight, requires_grad=False).copy_(numbers)


def _swap(tensor: Tensor, groups: int) -> Tensor:
    """Swap the two channel axes within each group; its own inverse."""
    first, second, *kernel = tensor.shape
    grouped = tensor.reshape(groups, first // groups, second, *kernel)
    return grouped.transpose(1, 2).reshape(groups * second, first // groups, *kernel)
