"""The feedback operation: identity on a layer's output, B on the way back."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGEST_POWER = {
    dtype: 2.0 ** (math.frexp(torch.finfo(dtype).max)[1] - 1)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
}

_BLOCK = 1 << 21
"""Numbers of B that a CPU forms at a time for a dense layer: they stay in the cache."""


@dataclass(frozen=True)
class Redrawn:
    """Numbers that are not kept: each backward pass that needs them draws the same ones again.

    Args:
        draw: Draws them, like the weights that it is given.
        magnitudes: Whether they are M, which takes the signs of the weights, or B itself.
    """

    draw: Callable[[Tensor], Tensor]
    magnitudes: bool


Magnitude: TypeAlias = float | Tensor | Callable[[], Tensor] | Redrawn


class Feedback(NamedTuple):
    """What a layer's B is made of. B itself exists only while the layer's backward runs.

    Args:
        matrix: B; or, where there is a magnitude, the weights whose sign B takes, or these signs in
            int8 beside a magnitude in B's dtype.
        magnitude: None, or M in ``B = M * sign(matrix)``: a number, a tensor, or a function that
            is called once for every backward pass; or what is drawn again instead of being kept.
        error_dtype: What error and B are rounded to before they are multiplied, None for the
            error's dtype.
    """

    matrix: Tensor
    magnitude: Magnitude | None = None
    error_dtype: torch.dtype | None = None


class Operation(Protocol):
    """A layer's linear map, as far as its derivative with respect to the input needs it."""

    def input_gradient(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """Return the derivative of ``error . op(x, feedback)`` for x of this shape."""
        ...


@dataclass(frozen=True)
class Dense:
    """The map ``x W^T``."""

    def input_gradient(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """Return ``error B``."""
        return error @ feedback


@dataclass(frozen=True)
class Convolution:
    """A convolution, whose input gradient is the transposed convolution with the same weights."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def input_gradient(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """Return the error at inputs of this shape, which settles the output padding."""
        extra = [
            n - ((e - 1) * s - 2 * p + d * (k - 1) + 1)
            for n, e, s, p, d, k in zip(
                shape[2:],
                error.shape[2:],
                self.stride,
                self.padding,
                self.dilation,
                feedback.shape[2:],
                strict=True,
            )
        ]
        return torch.convolution(
            error,
            feedback,
            None,
            self.stride,
            self.padding,
            self.dilation,
            transposed=True,
            output_padding=extra,
            groups=self.groups,
        )


@dataclass(frozen=True)
class TransposedConvolution:
    """A transposed convolution, whose input gradient is the convolution with the same weights."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def input_gradient(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """Return the error at inputs of this shape."""
        sent = torch.convolution(
            error,
            feedback,
            None,
            self.stride,
            self.padding,
            self.dilation,
            transposed=False,
            output_padding=[0] * len(self.stride),
            groups=self.groups,
        )
        # An output padding of a whole stride (allowed under dilation) adds positions that no
        # input reaches.
        for axis, size in enumerate(shape[2:], start=2):
            sent = sent.narrow(axis, 0, size)
        return sent


def send_back(y: Tensor, x: Tensor, feedback: Feedback, operation: Operation) -> Tensor:
    """Return y such that the error that arrives at it is sent to x through B.

    Args:
        y: The operation's native output, computed from ``x.detach()``; it takes the error as it
            is, for the gradients of weights and bias.
        x: The layer's input.
        feedback: What B is made of.
        operation: The layer's linear map.
    """
    # Torch binds the arguments of what torch.func can transform to a signature, at every call: in a
    # small layer that takes as long as the layer.
    function = _TransformableOperation if _transformed() else _FeedbackOperation
    sent: Tensor = function.apply(y, x, *feedback, operation)
    return sent


def matrix_of(feedback: Feedback) -> Tensor:
    """Return B."""
    matrix, magnitude, _ = feedback
    if magnitude is None:
        return matrix
    if isinstance(magnitude, Redrawn):
        drawn = magnitude.draw(matrix)
        return signed(matrix, drawn) if magnitude.magnitudes else drawn
    return signed(matrix, magnitude() if callable(magnitude) else magnitude)


def signed(weight: Tensor, magnitude: float | Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``magnitude * sign(weight)``, where the sign of NaN is NaN (clause R7).

    Torch's own sign makes NaN zero. So weights are scaled up until all but zeros exceed any
    magnitude, subnormal ones too, and clipped, in place (by hardtanh, which vmap can batch).

    Args:
        weight: Weights, or their signs in int8.
        magnitude: A number, or a tensor of the weights' shape or of none.
        out: Where the result of floating weights is written, if not to memory of its own.
    """
    if weight.dtype == torch.int8:  # signs already
        assert isinstance(magnitude, Tensor)
        return weight.to(magnitude.dtype).mul_(magnitude)
    largest = _LARGEST_POWER[weight.dtype]
    # Both factors in one pass: added to the weight itself, which changes no sign.
    scaled = torch.addcmul(weight, weight, weight.new_full((), largest), value=largest, out=out)
    if isinstance(magnitude, Tensor):
        return F.hardtanh_(scaled, -1, 1).mul_(magnitude)
    return F.hardtanh_(scaled, -magnitude, magnitude)


def _fits_blocks(feedback: Feedback) -> bool:
    """Return whether ``dense_in_blocks`` can be used, and is faster."""
    matrix, magnitude, _ = feedback
    return (
        magnitude is not None
        and not isinstance(magnitude, Redrawn)
        and type(matrix) is Tensor  # no shards of one
        and matrix.is_cpu
        and matrix.is_floating_point()
        and matrix.numel() > _BLOCK
        and not _transformed()
        and not torch.is_grad_enabled()  # a derivative of this one would need every block
    )


def dense_in_blocks(error: Tensor, matrix: Tensor, magnitude: float | Tensor) -> Tensor:
    """Return ``error B``, where B exists only a few rows at a time.

    New memory of tens of megabytes costs a CPU more than the signs do, or the multiplication.
    """
    rows = math.ceil(_BLOCK / matrix.shape[1])
    block = matrix.new_empty(rows, matrix.shape[1])
    errors = error.reshape(-1, len(matrix))
    # Sums that go on from block to block would cost narrow dtypes their accuracy.
    wide = torch.promote_types(error.dtype, torch.float32)
    sent = error.new_zeros(len(errors), matrix.shape[1], dtype=wide)
    for start in range(0, len(matrix), rows):
        part = slice(start, start + rows)
        weight = matrix[part]
        if isinstance(magnitude, Tensor) and magnitude.dim():
            signs = signed(weight, magnitude[part], block[: len(weight)])
        else:
            signs = signed(weight, magnitude, block[: len(weight)])
        if error.dtype == matrix.dtype == wide:
            sent.addmm_(errors[:, part], signs)
        else:
            sent += errors[:, part] @ signs.to(error.dtype)
    return sent.reshape(*error.shape[:-1], -1)


def _transformed() -> bool:
    """Return whether torch.func or torch.compile is at work."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


class _SendingBack(torch.autograd.Function):
    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = errors
        matrix, *saved = ctx.saved_tensors
        magnitude = saved[0] if saved else ctx.magnitude
        if callable(magnitude):
            magnitude = magnitude()  # first, because every backward pass counts (clause R4)
        if not ctx.needs_input_grad[1]:
            return error, None, None, None, None, None
        feedback = Feedback(matrix, magnitude)
        # Under autocast the error comes in the output's dtype and x has its own.
        rounded = error if ctx.error_dtype is None else error.to(ctx.error_dtype)
        if isinstance(ctx.operation, Dense) and _fits_blocks(feedback):
            sent = dense_in_blocks(rounded, matrix, magnitude)
        else:
            matrix = matrix_of(feedback).to(rounded.dtype)
            sent = ctx.operation.input_gradient(rounded, matrix, ctx.shape)
        return error, sent.to(ctx.dtype), None, None, None, None


class _FeedbackOperation(_SendingBack):
    @staticmethod
    def forward(ctx: Any, y: Tensor, *inputs: Any) -> Tensor:
        _save(ctx, *inputs)
        # An alias that autograd does not take for a view: in-place operations may follow.
        return y.detach()


class _TransformableOperation(_SendingBack):
    """The same operation in the form that ``torch.func`` takes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, *inputs: Any) -> Tensor:
        return y.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _save(ctx, *inputs[1:])


def _save(
    ctx: Any,
    x: Tensor,
    matrix: Tensor,
    magnitude: Magnitude | None,
    error_dtype: torch.dtype | None,
    operation: Operation,
) -> None:
    # Saved, so that changing W or B in place between forward and backward is an error.
    if isinstance(magnitude, Tensor):
        ctx.save_for_backward(matrix, magnitude)
        ctx.magnitude = None
    else:
        ctx.save_for_backward(matrix)
        ctx.magnitude = magnitude
    ctx.shape, ctx.dtype, ctx.error_dtype, ctx.operation = x.shape, x.dtype, error_dtype, operation
