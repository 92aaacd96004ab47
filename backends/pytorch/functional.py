"""Weight layers as functions: ``torch.nn.functional``'s own, with B for the way back.

Each returns what its namesake in ``torch.nn.functional`` returns, bit for bit, and gives the same
gradients of weight and bias; only the error sent to ``x`` is computed with ``feedback``. They
work under ``torch.compile``, autocast, ``torch.func.grad`` and ``torch.func.vmap``; forward-mode
differentiation is an error, for a feedback path has none.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor

from antiparallel.spec import SpecError
from antiparallel.torch.feedback import (
    Convolution,
    Dense,
    Feedback,
    TransposedConvolution,
    send_back,
)

Sizes: TypeAlias = int | tuple[int, ...]


def linear(
    x: Tensor, weight: Tensor, feedback: Tensor | Feedback, bias: Tensor | None = None
) -> Tensor:
    """Apply a dense layer whose error goes back through B: ``y = x W^T + b``, ``dx = dy B``.

    Args:
        x: ``(..., n_in)``.
        weight: W, ``(n_out, n_in)``.
        feedback: B, in W's shape; or a ``Feedback``, from which B is made in the backward pass.
        bias: ``(n_out,)``, or None.

    Returns:
        y, ``(..., n_out)``.

    Raises:
        SpecError: B's shape is not W's.

    References:
        Xiao et al. (2019), Eq. 1 and 2.
    """
    feedback = _as_feedback(feedback, weight)
    return send_back(F.linear(x.detach(), weight, bias), x, feedback, Dense())


def conv1d(
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | Feedback,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Apply a 1-d convolution whose error goes back through B; see ``conv2d``."""
    return _convolution(F.conv1d, 1, x, weight, feedback, bias, stride, padding, dilation, groups)


def conv2d(
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | Feedback,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Apply a 2-d convolution whose error goes back through B.

    Args:
        x: ``(batch, n_in, height, width)``, or the same without batch.
        weight: W, ``(n_out, n_in / groups, *kernel)``.
        feedback: B, in W's shape; or a ``Feedback``, from which B is made in the backward pass.
        bias: ``(n_out,)``, or None.
        stride: One number, or one per dimension.
        padding: One number, one per dimension, ``"valid"``, or ``"same"`` (stride 1 only).
        dilation: One number, or one per dimension.
        groups: Channel groups.

    Returns:
        y, ``(batch, n_out, height, width)``, or the same without batch.

    Raises:
        SpecError: B's shape is not W's, or the padding is none of these.
    """
    return _convolution(F.conv2d, 2, x, weight, feedback, bias, stride, padding, dilation, groups)


def conv3d(
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | Feedback,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Apply a 3-d convolution whose error goes back through B; see ``conv2d``."""
    return _convolution(F.conv3d, 3, x, weight, feedback, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | Feedback,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """Apply a 1-d transposed convolution, error through B; see ``conv_transpose2d``."""
    return _transposed(
        F.conv_transpose1d,
        1,
        x,
        weight,
        feedback,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | Feedback,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """Apply a 2-d transposed convolution whose error goes back through B.

    Args:
        x: ``(batch, n_in, height, width)``, or the same without batch.
        weight: W in torch's layout for this kind, ``(n_in, n_out / groups, *kernel)``.
        feedback: B, in W's shape; or a ``Feedback``, from which B is made in the backward pass.
        bias: ``(n_out,)``, or None.
        stride: One number, or one per dimension.
        padding: One number, or one per dimension.
        output_padding: One number, or one per dimension.
        groups: Channel groups.
        dilation: One number, or one per dimension.

    Returns:
        y, ``(batch, n_out, height, width)``, or the same without batch.

    Raises:
        SpecError: B's shape is not W's.
    """
    return _transposed(
        F.conv_transpose2d,
        2,
        x,
        weight,
        feedback,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def conv_transpose3d(
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | Feedback,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """Apply a 3-d transposed convolution, error through B; see ``conv_transpose2d``."""
    return _transposed(
        F.conv_transpose3d,
        3,
        x,
        weight,
        feedback,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def _convolution(
    native: Callable[..., Tensor],
    rank: int,
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | Feedback,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    feedback = _as_feedback(feedback, weight)
    stride, dilation = _per_dimension(stride, rank), _per_dimension(dilation, rank)
    unbatched = x.dim() == rank + 1
    if unbatched:
        x = x.unsqueeze(0)
    if isinstance(padding, str):
        x, padding = _numbers_for(padding, x, weight, stride, dilation)
    padding = _per_dimension(padding, rank)
    y = native(x.detach(), weight, bias, stride, padding, dilation, groups)
    y = send_back(y, x, feedback, Convolution(stride, padding, dilation, groups))
    return y.squeeze(0) if unbatched else y


def _transposed(
    native: Callable[..., Tensor],
    rank: int,
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | Feedback,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> Tensor:
    feedback = _as_feedback(feedback, weight)
    stride, dilation = _per_dimension(stride, rank), _per_dimension(dilation, rank)
    padding = _per_dimension(padding, rank)
    unbatched = x.dim() == rank + 1
    if unbatched:
        x = x.unsqueeze(0)
    y = native(x.detach(), weight, bias, stride, padding, output_padding, groups, dilation)
    y = send_back(y, x, feedback, TransposedConvolution(stride, padding, dilation, groups))
    return y.squeeze(0) if unbatched else y


def _as_feedback(feedback: Tensor | Feedback, weight: Tensor) -> Feedback:
    if isinstance(feedback, Tensor):
        feedback = Feedback(feedback)
    if feedback.matrix.shape != weight.shape:
        raise SpecError(
            f"Expected feedback in the weight's shape {tuple(weight.shape)}. "
            f"Received: feedback.shape={tuple(feedback.matrix.shape)}"
        )
    return feedback


def _per_dimension(value: Sizes, rank: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * rank
    return tuple(value) * rank if len(value) == 1 else tuple(value)


def _numbers_for(
    padding: str, x: Tensor, weight: Tensor, stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[Tensor, tuple[int, ...]]:
    """Return x and the padding in numbers, x padded where the two ends differ (even kernels)."""
    rank = len(stride)
    if padding == "valid":
        return x, (0,) * rank
    if padding != "same" or stride != (1,) * rank:
        raise SpecError(
            "Expected padding in numbers, 'valid', or with stride 1 'same'. "
            f"Received: padding={padding!r}, stride={stride}"
        )
    total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if any(pad % 2 for pad in total):
        x = F.pad(x, [end for pad in reversed(total) for end in (0, pad % 2)])
    return x, tuple(pad // 2 for pad in total)
