"""Paddings of the specification that torch's layers do not have, made of those they have."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiparallel.spec import Conv, ConvTranspose, Dense, Geometry
from antiparallel.torch import layers as ap

_CONVOLUTIONS = {1: ap.Conv1d, 2: ap.Conv2d, 3: ap.Conv3d}
_TRANSPOSED = {1: ap.ConvTranspose1d, 2: ap.ConvTranspose2d, 3: ap.ConvTranspose3d}


class PaddedLayer(nn.Module):
    """A layer with the padding that its geometry asks for.

    Torch's layers pad both ends alike; where the ends differ, zeros are added before the layer,
    or the output of a transposed convolution is cut after it, as a user would do.
    """

    def __init__(self, geometry: Geometry, dtype: torch.dtype, bias: bool = True) -> None:
        super().__init__()
        self.geometry = geometry
        self.ends_differ = not isinstance(geometry, Dense) and _numbers(geometry) is None
        self.layer: Any = backprop_layer(geometry, dtype, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output with its padding."""
        self.geometry.output_shape(tuple(x.shape))  # raises SpecError for an x that does not fit
        if not self.ends_differ:
            out: Tensor = self.layer(x)
            return out
        if isinstance(self.geometry, Conv):
            pads = self.geometry.pads(tuple(x.shape[2:]))
            padded: Tensor = self.layer(F.pad(x, [n for pair in reversed(pads) for n in pair]))
            return padded
        assert isinstance(self.geometry, ConvTranspose)
        y: Tensor = self.layer(x)
        for axis, (before, after) in enumerate(self.geometry.pads(), start=2):
            y = y.narrow(axis, before, y.shape[axis] - before - after)
        return y


def backprop_layer(geometry: Geometry, dtype: torch.dtype, bias: bool) -> Any:
    """Return a geometry's layer under bp, padded as far as torch's layers can."""
    options: dict[str, Any] = {"bias": bias, "dtype": dtype, "rule": "bp"}
    if isinstance(geometry, Dense):
        return ap.Linear(geometry.n_in, geometry.n_out, **options)
    options |= {
        "stride": geometry.strides,
        "dilation": geometry.dilations,
        "groups": geometry.groups,
        "padding": _numbers(geometry) or 0,
    }
    shape = (geometry.n_in, geometry.n_out, geometry.kernel)
    if isinstance(geometry, Conv):
        return _CONVOLUTIONS[geometry.rank](*shape, **options)
    return _TRANSPOSED[geometry.rank](*shape, output_padding=geometry.output_paddings, **options)


def _numbers(geometry: Conv | ConvTranspose) -> str | tuple[int, ...] | None:
    """Return the padding as torch's layers take it; None if they cannot."""
    if geometry.padding == "valid":
        return (0,) * geometry.rank
    if geometry.padding == "same":
        # Under stride 1 it depends on the kernel only; torch warns where the ends differ.
        spans = [d * (k - 1) for d, k in zip(geometry.dilations, geometry.kernel, strict=True)]
        fits = set(geometry.strides) == {1} and not any(span % 2 for span in spans)
        return "same" if fits else None
    pads = geometry.pads((1,) * geometry.rank) if isinstance(geometry, Conv) else geometry.pads()
    return tuple(a for a, _ in pads) if all(a == b for a, b in pads) else None
