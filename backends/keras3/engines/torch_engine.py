"""The feedback operation on torch.

``keras.ops.custom_gradient`` would turn an exception into NaN gradients here; this is
``torch.autograd.Function`` itself.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from antiparallel.spec import Conv

NAME = "torch"

LACKS: frozenset[str] = frozenset()
"""What it cannot do that other engines can."""


_LARGEST_POWER = {
    dtype: 2.0 ** (math.frexp(torch.finfo(dtype).max)[1] - 1)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
}

_LARGE, _BLOCK = 1 << 21, 1 << 20
"""Numbers of weights above which B is made in blocks, and numbers of a block."""


def versions() -> dict[str, str]:
    """Return the engine's version by its name."""
    return {"torch": torch.__version__}


def send_back(
    y: Tensor,
    x: Tensor,
    arrays: Sequence[Tensor],
    input_gradient: Callable[..., Tensor],
    *,
    drawn: bool,
) -> Tensor:
    """Return y such that the error that arrives at it is sent to x through B.

    Args:
        y: The layer's output, which takes the error as it is.
        x: The layer's input.
        arrays: What B is made of.
        input_gradient: Returns the error for x: ``input_gradient(error, like, *arrays)``, like
            having x's shape and dtype.
        drawn: Whether it draws, which it must at every backward pass, also when nobody takes
            the error, as at the first layer.
    """
    if not (x.requires_grad or drawn):
        return y
    sent: Tensor = _FeedbackOperation.apply(y, x, input_gradient, *arrays)
    return sent


class _FeedbackOperation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, input_gradient: Any, *arrays: Tensor) -> Tensor:
        # Saved, so that changing W or B in place between forward and backward is an error.
        ctx.save_for_backward(*arrays)
        ctx.input_gradient = input_gradient
        ctx.like = torch.empty(x.shape, dtype=x.dtype, device="meta")
        # An alias that autograd does not take for a view: in-place operations may follow.
        return y.detach()

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = errors
        arrays = ctx.saved_tensors
        sent = ctx.input_gradient(error, ctx.like, *arrays)
        return error, sent.to(ctx.like.dtype), None, *(None for _ in arrays)


def convolve(native: Callable[[Tensor], Tensor], kernel: Tensor, data_format: str) -> Tensor:
    """Return ``native(kernel)``, computed from a copy that torch's convolutions need not copy.

    They want a kernel as ``(n_out, *kernel, n_in / groups)`` in memory and bring any other to that
    themselves, in the forward and in the backward pass, by a copy several times slower.

    Args:
        native: The convolution, which sends no error to its input.
        kernel: ``(*kernel, n_in / groups, n_out)``.
        data_format: ``"channels_last"`` or ``"channels_first"``.
    """
    in_one_dimension = kernel.dim() == 3  # which torch computes otherwise
    if data_format == "channels_first" or in_one_dimension or torch.compiler.is_compiling():
        return native(kernel)
    arranged: Tensor = _Arrangement.apply(kernel)
    place, shape = arranged.data_ptr(), _as_torch_takes_it(kernel).shape
    unknown = kernel.new_full((), math.nan)

    def pack(saved: Tensor) -> Tensor | None:
        # Kept until the backward pass, the copies would take as much memory as all weights.
        return None if saved.data_ptr() == place else saved

    def unpack(saved: Tensor | None) -> Tensor:
        # The kernel's gradient needs the kernel's shape alone; only the input's needs its values.
        return unknown.expand(shape) if saved is None else saved

    with saved_tensors_hooks(pack, unpack):
        return native(arranged)


class _Arrangement(torch.autograd.Function):
    """A copy of a kernel in other strides, and the way back for its gradient."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor) -> Tensor:
        return _arranged(kernel)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        *rest, n_out = gradient.shape
        flat = gradient.movedim(-1, 0).reshape(n_out, -1)
        return flat.t().contiguous().view(*rest, n_out)


def _arranged(kernel: Tensor) -> Tensor:
    """Return a kernel ``(*kernel, n_in, n_out)`` that is ``(n_out, *kernel, n_in)`` in memory."""
    *rest, n_out = kernel.shape
    return kernel.reshape(-1, n_out).t().contiguous().view(n_out, *rest).movedim(0, -1)


def _as_torch_takes_it(kernel: Tensor) -> Tensor:
    rank = kernel.dim() - 2
    return kernel.permute(rank + 1, rank, *range(rank))


def convolution_input_gradient(
    error: Tensor,
    kernel: Tensor,
    like: Tensor,
    *,
    strides: tuple[int, ...],
    padding: str,
    data_format: str,
    dilation_rate: tuple[int, ...],
) -> Tensor:
    """Return the derivative of ``error . convolution(x, kernel)`` for x of the shape of ``like``.

    Args:
        error: The error at the output.
        kernel: B, ``(*kernel, n_in / groups, n_out)``.
        like: Any tensor of x's shape.
        strides: One number per dimension.
        padding: ``"valid"`` or ``"same"``.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        dilation_rate: One number per dimension.
    """
    if data_format == "channels_last":
        error, like = error.movedim(-1, 1), like.movedim(-1, 1)
    rank, spatial = len(strides), tuple(like.shape[2:])
    groups = like.shape[1] // kernel.shape[-2]
    geometry = Conv(
        n_in=like.shape[1],
        n_out=kernel.shape[-1],
        kernel=tuple(kernel.shape[:-2]),
        stride=strides,
        padding=padding,  # type: ignore[arg-type]  # Keras allows these two words
        dilation=dilation_rate,
        groups=groups,
    )
    pads = geometry.pads(spatial)
    cut = tuple(min(before, after) for before, after in pads)  # what torch can pad at both ends
    reached = [
        (e - 1) * s - 2 * p + d * (k - 1) + 1
        for e, s, p, d, k in zip(
            error.shape[2:], strides, cut, dilation_rate, geometry.kernel, strict=True
        )
    ]
    starts = [before - p for (before, _), p in zip(pads, cut, strict=True)]
    # What no window reaches, without padding: the end of a length that strides do not divide.
    rest = [
        max(start + n - size, 0) for start, n, size in zip(starts, spatial, reached, strict=True)
    ]
    if data_format == "channels_last" and rank > 1:
        kernel = _arranged(kernel)  # see convolve
    sent = torch.convolution(
        error,
        _as_torch_takes_it(kernel),
        None,
        strides,
        cut,
        dilation_rate,
        transposed=True,
        output_padding=rest,
        groups=groups,
    )
    for axis, (start, size) in enumerate(zip(starts, spatial, strict=True), start=2):
        sent = sent.narrow(axis, start, size)
    return sent.movedim(1, -1) if data_format == "channels_last" else sent


def rows_of_a_block(weight: Tensor) -> int:
    """Return how many rows of B a dense layer makes at a time, 0 for all.

    On a CPU, new memory of tens of megabytes costs more than the signs do, or the multiplication.
    A block stays in the cache until the error is multiplied by it.

    Args:
        weight: W, ``(n_in, n_out)``.
    """
    if not weight.is_cpu or weight.numel() <= _LARGE or torch.compiler.is_compiling():
        return 0
    return math.ceil(_BLOCK / weight.shape[1])


def as_tensor(x: Any) -> Tensor:
    """Return a variable, an array or a tensor as a tensor, in the dtype that Keras computes in."""
    tensor: Tensor = keras.ops.convert_to_tensor(x)
    return tensor


def signed(weight: Tensor, magnitude: float | Tensor = 1.0) -> Tensor:
    """Return ``magnitude * sign(weight)``, where the sign of NaN is NaN (clause R7).

    Torch's own sign makes NaN zero. So weights are scaled up until all but zeros exceed any
    magnitude, subnormal ones too, and clipped, in place.
    """
    largest = _LARGEST_POWER[weight.dtype]
    # Both factors in one pass: added to the weight itself, which changes no sign.
    scaled = torch.addcmul(weight, weight, weight.new_full((), largest), value=largest)
    if isinstance(magnitude, Tensor):
        return F.hardtanh_(scaled, -1, 1).mul_(magnitude)
    return F.hardtanh_(scaled, -magnitude, magnitude)


def draw_on_host(draw: Callable[[], np.ndarray[Any, Any]], like: Tensor, *, pure: bool) -> Tensor:
    """Return what a NumPy function returns, as a tensor like another.

    Args:
        draw: The function.
        like: A tensor of the shape, dtype and device that are wanted.
        pure: Whether each execution returns the same.
    """
    from antiparallel.keras.engines.torch_uncompiled import drawn

    return torch.from_numpy(drawn(draw)).to(like)


def pullback(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], error: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return ``function(*inputs)`` and the gradients of its inputs.

    Args:
        function: Takes tensors, returns one.
        inputs: The tensors.
        error: Returns the error at the output for an output.
    """
    inputs = [x.detach().clone().requires_grad_() for x in map(as_tensor, inputs)]
    with torch.enable_grad():
        y = function(*inputs)
    gradients = torch.autograd.grad(
        y, inputs, error(y.detach()), allow_unused=True, materialize_grads=True
    )
    return y.detach(), list(gradients)
