"""The shapes of weight layers: dense, convolution, transposed convolution.

Everything is in the specification's canonical layout (SPEC.md, clauses N1 and N2): activations
are ``(batch, channels, *spatial)``, weights are ``(n_out, n_in / groups, *kernel)`` for every
kind of layer, transposed convolutions included.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

from antiparallel.spec.errors import SpecError

Pairs: TypeAlias = tuple[tuple[int, int], ...]
Padding: TypeAlias = int | tuple[int, ...] | Pairs | Literal["same", "valid"]


@dataclass(frozen=True)
class Dense:
    """A dense layer ``y = x W^T + b`` on inputs ``(..., n_in)`` (clause N3).

    Args:
        n_in: Input features.
        n_out: Output features.
    """

    n_in: int
    n_out: int

    def __post_init__(self) -> None:
        _require_positive("n_in", self.n_in)
        _require_positive("n_out", self.n_out)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """``(n_out, n_in)``."""
        return (self.n_out, self.n_in)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(..., n_out)`` for inputs ``(..., n_in)``."""
        if not input_shape or input_shape[-1] != self.n_in:
            raise SpecError(f"Expected inputs (..., {self.n_in}). Received: shape={input_shape}")
        return (*input_shape[:-1], self.n_out)


@dataclass(frozen=True)
class Conv:
    """A convolution (cross-correlation, as in every framework) in 1 to 3 dimensions (clause N4).

    Args:
        n_in: Input channels.
        n_out: Output channels.
        kernel: Kernel size per dimension; its length is the layer's rank.
        stride: Stride, one number or one per dimension.
        padding: Zeros around the input: one number, one per dimension, one pair (before, after)
            per dimension, ``"valid"`` (none) or ``"same"`` (output size ``ceil(n / stride)``).
        dilation: Spacing of the kernel's taps, one number or one per dimension.
        groups: Channel groups; divides n_in and n_out.
    """

    n_in: int
    n_out: int
    kernel: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: Padding = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1

    def __post_init__(self) -> None:
        _require_convolution(self)
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                raise SpecError(
                    "Expected padding to be numbers, pairs, 'same' or 'valid'. "
                    f"Received: padding={self.padding!r}"
                )
        else:
            _as_pairs(self.padding, self.rank)

    @property
    def rank(self) -> int:
        """Number of spatial dimensions."""
        return len(self.kernel)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """``(n_out, n_in / groups, *kernel)``."""
        return (self.n_out, self.n_in // self.groups, *self.kernel)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride per dimension."""
        return _per_dimension("stride", self.stride, self.rank)

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation per dimension."""
        return _per_dimension("dilation", self.dilation, self.rank)

    def pads(self, spatial: tuple[int, ...]) -> Pairs:
        """Return the zeros (before, after) per dimension for inputs of this spatial size."""
        if self.padding == "valid":
            return ((0, 0),) * self.rank
        if self.padding == "same":
            return tuple(
                _same_pads(n, k, s, d)
                for n, k, s, d in zip(
                    spatial, self.kernel, self.strides, self.dilations, strict=True
                )
            )
        return _as_pairs(self.padding, self.rank)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(batch, n_out, *spatial)`` for inputs ``(batch, n_in, *spatial)``."""
        spatial = _spatial(self, input_shape)
        sizes = tuple(
            (n + sum(pad) - d * (k - 1) - 1) // s + 1
            for n, pad, k, s, d in zip(
                spatial, self.pads(spatial), self.kernel, self.strides, self.dilations, strict=True
            )
        )
        return _require_positive_output(self, input_shape, (input_shape[0], self.n_out, *sizes))


@dataclass(frozen=True)
class ConvTranspose:
    """A transposed convolution: the transpose of a convolution's linear map (clause N6).

    Output size per dimension: ``(n - 1) * stride - before - after + dilation * (kernel - 1) + 1
    + output_padding``.

    Args:
        n_in: Input channels.
        n_out: Output channels.
        kernel: Kernel size per dimension; its length is the layer's rank.
        stride: Stride, one number or one per dimension.
        padding: What is cut from the full output: one number, one per dimension, one pair
            (before, after) per dimension, or ``"valid"`` (nothing). ``"same"`` is out of scope.
        dilation: Spacing of the kernel's taps, one number or one per dimension.
        groups: Channel groups; divides n_in and n_out.
        output_padding: What is added to the end of the output, smaller than stride or dilation.
    """

    n_in: int
    n_out: int
    kernel: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: Padding = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    output_padding: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        _require_convolution(self)
        if isinstance(self.padding, str) and self.padding != "valid":
            raise SpecError(
                "Expected padding of a transposed convolution to be numbers, pairs or 'valid'. "
                f"Received: padding={self.padding!r}"
            )
        self.pads()
        extra = _per_dimension("output_padding", self.output_padding, self.rank, least=0)
        for added, s, d in zip(extra, self.strides, self.dilations, strict=True):
            if added >= max(s, d):
                raise SpecError(
                    "Expected output_padding smaller than stride or dilation. "
                    f"Received: output_padding={self.output_padding!r}"
                )

    @property
    def rank(self) -> int:
        """Number of spatial dimensions."""
        return len(self.kernel)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """``(n_out, n_in / groups, *kernel)``, as for every layer."""
        return (self.n_out, self.n_in // self.groups, *self.kernel)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride per dimension."""
        return _per_dimension("stride", self.stride, self.rank)

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation per dimension."""
        return _per_dimension("dilation", self.dilation, self.rank)

    @property
    def output_paddings(self) -> tuple[int, ...]:
        """Output padding per dimension."""
        return _per_dimension("output_padding", self.output_padding, self.rank, least=0)

    def pads(self) -> Pairs:
        """Return what is cut (before, after) per dimension."""
        if self.padding == "valid":
            return ((0, 0),) * self.rank
        return _as_pairs(self.padding, self.rank)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(batch, n_out, *spatial)`` for inputs ``(batch, n_in, *spatial)``."""
        spatial = _spatial(self, input_shape)
        sizes = tuple(
            (n - 1) * s - sum(pad) + d * (k - 1) + 1 + extra
            for n, pad, k, s, d, extra in zip(
                spatial,
                self.pads(),
                self.kernel,
                self.strides,
                self.dilations,
                self.output_paddings,
                strict=True,
            )
        )
        return _require_positive_output(self, input_shape, (input_shape[0], self.n_out, *sizes))


Geometry: TypeAlias = Dense | Conv | ConvTranspose


def fan_out(geometry: Geometry) -> int:
    """Return how many outputs one input feeds: ``prod(kernel) * n_out / groups``."""
    if isinstance(geometry, Dense):
        return geometry.n_out
    return prod(geometry.kernel) * geometry.n_out // geometry.groups


def _require_convolution(layer: Conv | ConvTranspose) -> None:
    for field in ("n_in", "n_out", "groups"):
        _require_positive(field, getattr(layer, field))
    if not (isinstance(layer.kernel, tuple) and 1 <= len(layer.kernel) <= 3):
        raise SpecError(f"Expected a kernel of 1 to 3 sizes. Received: kernel={layer.kernel!r}")
    for size in layer.kernel:
        _require_positive("kernel", size)
    _per_dimension("stride", layer.stride, layer.rank)
    _per_dimension("dilation", layer.dilation, layer.rank)
    if layer.n_in % layer.groups or layer.n_out % layer.groups:
        raise SpecError(
            "Expected groups to divide n_in and n_out. "
            f"Received: groups={layer.groups}, n_in={layer.n_in}, n_out={layer.n_out}"
        )


def _require_positive(field: str, value: object, least: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SpecError(
            f"Expected {field} to be an integer >= {least}. Received: {field}={value!r}"
        )


def _per_dimension(
    field: str, value: int | tuple[int, ...], rank: int, least: int = 1
) -> tuple[int, ...]:
    values = (value,) * rank if isinstance(value, int) else value
    if not isinstance(values, tuple) or len(values) != rank:
        raise SpecError(f"Expected {field} as one number or {rank}. Received: {field}={value!r}")
    for number in values:
        _require_positive(field, number, least)
    return values


def _as_pairs(padding: Padding, rank: int) -> Pairs:
    pads = (padding,) * rank if isinstance(padding, int) else padding
    if not isinstance(pads, tuple) or len(pads) != rank:
        raise SpecError(
            f"Expected padding as one number, {rank} numbers or {rank} pairs. "
            f"Received: padding={padding!r}"
        )
    pairs = tuple(pad if isinstance(pad, tuple) else (pad, pad) for pad in pads)
    for pair in pairs:
        if len(pair) != 2:
            raise SpecError(f"Expected pairs (before, after). Received: padding={padding!r}")
        for number in pair:
            _require_positive("padding", number, least=0)
    return tuple((before, after) for before, after in pairs)


def _same_pads(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return (total // 2, total - total // 2)


def _spatial(layer: Conv | ConvTranspose, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(input_shape) != layer.rank + 2 or input_shape[1] != layer.n_in:
        raise SpecError(
            f"Expected inputs (batch, {layer.n_in}, and {layer.rank} spatial sizes). "
            f"Received: shape={input_shape}"
        )
    return input_shape[2:]


def _require_positive_output(
    layer: Conv | ConvTranspose, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> tuple[int, ...]:
    if min(output_shape[2:]) < 1:
        raise SpecError(
            f"Expected inputs large enough for one output of {layer}. Received: shape={input_shape}"
        )
    return output_shape
