"""Weight layers as functions: ``keras.ops``'s own, with B for the way back.

Each returns what Keras's layer returns before its activation, bit for bit, and gives the same
gradients of kernel and bias; only the error sent to ``x`` is computed with ``feedback``. Kernels
and feedback are in Keras's layouts.
"""

from typing import Any, TypeAlias

from keras import config, ops

from antiparallel.keras.engines import engine
from antiparallel.keras.feedback import (
    Convolution,
    Dense,
    DepthwiseConvolution,
    EinsumDense,
    Feedback,
    TransposedConvolution,
    send_back,
)
from antiparallel.spec import SpecError

Sizes: TypeAlias = int | tuple[int, ...]


def dense(x: Any, kernel: Any, feedback: Any, bias: Any | None = None) -> Any:
    """Apply a dense layer whose error goes back through B: ``y = x W + b``, ``dx = dy B^T``.

    Args:
        x: ``(..., n_in)``.
        kernel: W, ``(n_in, n_out)``.
        feedback: B, in W's shape; or a ``Feedback``, from which B is made in the backward pass.
        bias: ``(n_out,)``, or None.

    Returns:
        y, ``(..., n_out)``.

    Raises:
        SpecError: B's shape is not W's.

    References:
        Xiao et al. (2019), Eq. 1 and 2.
    """
    x, kernel, feedback = _checked(x, kernel, feedback)
    y = ops.matmul(ops.stop_gradient(x), kernel)
    return send_back(y if bias is None else ops.add(y, bias), x, feedback, Dense())


def einsum_dense(equation: str, x: Any, kernel: Any, feedback: Any, bias: Any | None = None) -> Any:
    """Apply ``y = einsum(equation, x, W) + b``; the error goes back through B.

    Args:
        equation: ``"input,kernel->output"``; no axis of the kernel is of input and output both.
        x: The input.
        kernel: W.
        feedback: B, in W's shape; or a ``Feedback``, from which B is made in the backward pass.
        bias: In a shape that can be added to y, or None.

    Raises:
        SpecError: B's shape is not W's.
    """
    x, kernel, feedback = _checked(x, kernel, feedback)
    y = ops.einsum(equation, ops.stop_gradient(x), kernel)
    return send_back(y if bias is None else ops.add(y, bias), x, feedback, EinsumDense(equation))


def conv(
    x: Any,
    kernel: Any,
    feedback: Any,
    bias: Any | None = None,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Any:
    """Apply a convolution in 1 to 3 dimensions whose error goes back through B.

    Args:
        x: ``(batch, *spatial, n_in)``, or the channels second for ``"channels_first"``.
        kernel: W, ``(*kernel, n_in / groups, n_out)``; its size says how many groups there are.
        feedback: B, in W's shape; or a ``Feedback``, from which B is made in the backward pass.
        bias: ``(n_out,)``, or None.
        strides: One number, or one per dimension.
        padding: ``"valid"`` or ``"same"``.
        data_format: ``"channels_last"``, ``"channels_first"``, or None for Keras's default.
        dilation_rate: One number, or one per dimension.

    Returns:
        y, ``(batch, *spatial, n_out)``, or the channels second.

    Raises:
        SpecError: B's shape is not W's.
    """
    x, kernel, feedback = _checked(x, kernel, feedback)
    data_format = data_format or config.image_data_format()
    rank = len(kernel.shape) - 2
    strides, dilation_rate = _per_dimension(strides, rank), _per_dimension(dilation_rate, rank)

    def native(kernel: Any) -> Any:
        return ops.conv(
            ops.stop_gradient(x),
            kernel,
            strides=list(strides),
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
        )

    y = engine.convolve(native, kernel, data_format)
    operation = Convolution(strides, padding, data_format, dilation_rate)
    return send_back(_with_bias(y, bias, data_format), x, feedback, operation)


def depthwise_conv(
    x: Any,
    kernel: Any,
    feedback: Any,
    bias: Any | None = None,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Any:
    """Apply a depthwise convolution, error through B; W is ``(*kernel, n_in, multiplier)``.

    Other arguments are those of ``conv``; y has ``n_in * multiplier`` channels.
    """
    x, kernel, feedback = _checked(x, kernel, feedback)
    data_format = data_format or config.image_data_format()
    rank = len(kernel.shape) - 2
    strides, dilation_rate = _per_dimension(strides, rank), _per_dimension(dilation_rate, rank)
    y = ops.depthwise_conv(
        ops.stop_gradient(x),
        kernel,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
    )
    operation = DepthwiseConvolution(strides, padding, data_format, dilation_rate)
    return send_back(_with_bias(y, bias, data_format), x, feedback, operation)


def separable_conv(
    x: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    depthwise_feedback: Any,
    pointwise_feedback: Any,
    bias: Any | None = None,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Any:
    """Apply a depthwise convolution and a pointwise one, each with a B of its own.

    Args:
        x: As for ``conv``.
        depthwise_kernel: ``(*kernel, n_in, multiplier)``.
        pointwise_kernel: ``(*ones, n_in * multiplier, n_out)``.
        depthwise_feedback: B of the first, or a ``Feedback``.
        pointwise_feedback: B of the second, or a ``Feedback``.
        bias: ``(n_out,)``, or None.
        strides: One number, or one per dimension; of the depthwise convolution.
        padding: ``"valid"`` or ``"same"``.
        data_format: ``"channels_last"``, ``"channels_first"``, or None for Keras's default.
        dilation_rate: One number, or one per dimension; of the depthwise convolution.

    Raises:
        SpecError: A B's shape is not that of its kernel.
    """
    between = depthwise_conv(
        x,
        depthwise_kernel,
        depthwise_feedback,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
    )
    return conv(between, pointwise_kernel, pointwise_feedback, bias, data_format=data_format)


def conv_transpose(
    x: Any,
    kernel: Any,
    feedback: Any,
    bias: Any | None = None,
    strides: Sizes = 1,
    padding: str = "valid",
    output_padding: Sizes | None = None,
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Any:
    """Apply a transposed convolution, error through B; W is ``(*kernel, n_out, n_in)``.

    Args:
        x: ``(batch, *spatial, n_in)``, or the channels second for ``"channels_first"``.
        kernel: W.
        feedback: B, in W's shape; or a ``Feedback``, from which B is made in the backward pass.
        bias: ``(n_out,)``, or None.
        strides: One number, or one per dimension.
        padding: ``"valid"`` or ``"same"``.
        output_padding: None, one number, or one per dimension.
        data_format: ``"channels_last"``, ``"channels_first"``, or None for Keras's default.
        dilation_rate: One number, or one per dimension.

    Raises:
        SpecError: B's shape is not W's.
    """
    x, kernel, feedback = _checked(x, kernel, feedback)
    data_format = data_format or config.image_data_format()
    rank = len(kernel.shape) - 2
    strides, dilation_rate = _per_dimension(strides, rank), _per_dimension(dilation_rate, rank)
    if output_padding is not None:
        output_padding = _per_dimension(output_padding, rank)
    y = ops.conv_transpose(
        ops.stop_gradient(x),
        kernel,
        strides=list(strides),
        padding=padding,
        output_padding=output_padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
    )
    operation = TransposedConvolution(strides, padding, output_padding, data_format, dilation_rate)
    return send_back(_with_bias(y, bias, data_format), x, feedback, operation)


def _checked(x: Any, kernel: Any, feedback: Any) -> tuple[Any, Any, Feedback]:
    if not isinstance(feedback, Feedback):
        feedback = Feedback(engine.as_tensor(feedback))
    kernel = engine.as_tensor(kernel)
    if tuple(feedback.matrix.shape) != tuple(kernel.shape):
        raise SpecError(
            f"Expected feedback in the kernel's shape {tuple(kernel.shape)}. "
            f"Received: feedback.shape={tuple(feedback.matrix.shape)}"
        )
    return engine.as_tensor(x), kernel, feedback


def _with_bias(y: Any, bias: Any | None, data_format: str) -> Any:
    if bias is None:
        return y
    ones = (1,) * (len(y.shape) - 2)
    shape = (1, *ones, -1) if data_format == "channels_last" else (1, -1, *ones)
    return ops.add(y, ops.reshape(bias, shape))


def _per_dimension(value: Sizes, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)
