"""The feedback operation on TensorFlow.

Input gradients are TensorFlow's own operations for them: a tape inside the custom gradient would
run the layer a second time, and graph mode keeps that forward pass.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from antiparallel.spec import UnsupportedError

NAME = "tensorflow"

LACKS: frozenset[str] = frozenset({"draws under jit", "empty batches", "dilation in float64"})
"""What TensorFlow cannot do: run NumPy in functions compiled with ``jit_compile``; and on the CPU
stride over an empty batch, and differentiate dilated convolutions in float64."""


def versions() -> dict[str, str]:
    """Return the engine's version by its name."""
    return {"tensorflow": tf.__version__}


def send_back(
    y: Any,
    x: Any,
    arrays: Sequence[Any],
    input_gradient: Callable[..., Any],
    *,
    drawn: bool,
) -> Any:
    """Return y such that the error that arrives at it is sent to x through B.

    Args:
        y: The layer's output, which takes the error as it is.
        x: The layer's input.
        arrays: What B is made of.
        input_gradient: Returns the error for x: ``input_gradient(error, like, *arrays)``, like
            having x's shape and dtype.
        drawn: Whether it draws. What nobody takes is left out here by the compiler, draws are not.
    """
    arrays = [tf.stop_gradient(array) for array in arrays]

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no type hints
    def identity(y: Any, x: Any) -> Any:
        def gradient(error: Any) -> tuple[Any, Any]:
            # Otherwise a graph forms the B of all layers at once, before any error arrives.
            with tf.control_dependencies([error]):
                sent = input_gradient(error, x, *arrays)
            return error, tf.cast(sent, x.dtype)

        return tf.identity(y), gradient

    return identity(y, x)


def convolve(native: Callable[[Any], Any], kernel: Any, data_format: str) -> Any:
    """Return ``native(kernel)``: kernels are laid out as this engine wants them."""
    return native(kernel)


def convolution_input_gradient(
    error: Any,
    kernel: Any,
    like: Any,
    *,
    strides: tuple[int, ...],
    padding: str,
    data_format: str,
    dilation_rate: tuple[int, ...],
) -> Any:
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
    rank = len(strides)
    channels = like.shape[1 if data_format == "channels_first" else -1]
    grouped = kernel.shape[-2] != channels
    if data_format == "channels_first":
        # The CPU has no kernels for channels first; on other devices the compiler cancels this.
        error, like = _channels_last(error), _channels_last(like)
    settings = (strides, padding.upper(), dilation_rate)
    # As Keras does for the forward pass: some the CPU has only when compiled.
    dilated = max(dilation_rate) > 1 and (rank == 3 or error.dtype == tf.float64)
    compiled = grouped or dilated
    run = _compiled_input_gradient if compiled else _input_gradient
    sent = run(error, kernel, like, *settings)
    return _channels_first(sent) if data_format == "channels_first" else sent


def _input_gradient(
    error: Any,
    kernel: Any,
    like: Any,
    strides: tuple[int, ...],
    padding: str,
    dilation_rate: tuple[int, ...],
) -> Any:
    if len(strides) == 1:  # TensorFlow's operations are for two dimensions and three
        sent = _input_gradient(
            tf.expand_dims(error, 1),
            tf.expand_dims(kernel, 0),
            tf.expand_dims(like, 1),
            (1, *strides),
            padding,
            (1, *dilation_rate),
        )
        return tf.squeeze(sent, 1)
    two = len(strides) == 2
    operation = tf.raw_ops.Conv2DBackpropInput if two else tf.raw_ops.Conv3DBackpropInputV2
    return operation(
        input_sizes=tf.shape(like),
        filter=kernel,
        out_backprop=error,
        strides=[1, *strides, 1],
        padding=padding,
        dilations=[1, *dilation_rate, 1],
    )


_compiled_input_gradient = tf.function(_input_gradient, jit_compile=True, autograph=False)


def _channels_last(x: Any) -> Any:
    return tf.transpose(x, [0, *range(2, len(x.shape)), 1])


def _channels_first(x: Any) -> Any:
    return tf.transpose(x, [0, len(x.shape) - 1, *range(1, len(x.shape) - 1)])


def rows_of_a_block(weight: Any) -> int:
    """Return how many rows of B a dense layer makes at a time: 0, for all."""
    return 0


def as_tensor(x: Any) -> Any:
    """Return a variable, an array or a tensor as a tensor, in the dtype that Keras computes in."""
    return tf.convert_to_tensor(x)


def signed(weight: Any, magnitude: Any = 1.0) -> Any:
    """Return ``magnitude * sign(weight)``, the sign of NaN being NaN (clause R7).

    By the bits, because arithmetic here takes subnormal numbers for 0.
    """
    return _compiled_signed(weight, tf.convert_to_tensor(magnitude, weight.dtype))


def _signed(weight: Any, magnitude: Any) -> Any:
    integer = {2: tf.int16, 4: tf.int32, 8: tf.int64}[weight.dtype.size]
    bits = tf.bitcast(weight, integer)
    signs = tf.sign(tf.where(bits == integer.min, tf.zeros_like(bits), bits))
    signs = tf.cast(signs, weight.dtype)
    return tf.where(tf.math.is_nan(weight), weight, signs) * magnitude


# One pass over the weights. Operation by operation it takes eight, a fifth of a training step
# where weights outweigh activations.
_compiled_signed = tf.function(_signed, jit_compile=True, autograph=False)


def draw_on_host(draw: Callable[[], np.ndarray[Any, Any]], like: Any, *, pure: bool) -> Any:
    """Return what a function returns that NumPy runs at each execution, in the shape of ``like``.

    Args:
        draw: The function.
        like: A tensor of the shape and dtype that are wanted.
        pure: Whether each execution returns the same.

    Raises:
        UnsupportedError: Several replicas run the layer; unless pure, their draws would differ.
    """
    if not pure and tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise UnsupportedError(
            "Expected one replica under ss-batch: replicas cannot agree on a draw. "
            f"Received: {tf.distribute.get_strategy().num_replicas_in_sync} replicas"
        )
    dtype = tf.float64 if like.dtype == tf.float64 else tf.float32
    # Stateful, pure or not: of what has no state a graph keeps the first draw as a constant.
    drawn = tf.numpy_function(draw, [], dtype, stateful=True)
    return tf.cast(tf.ensure_shape(drawn, like.shape), like.dtype)


def pullback(
    function: Callable[..., Any], inputs: Sequence[Any], error: Callable[[Any], Any]
) -> tuple[Any, list[Any]]:
    """Return ``function(*inputs)`` and the gradients of its inputs.

    Args:
        function: Takes tensors, returns one.
        inputs: The tensors.
        error: Returns the error at the output for an output.
    """
    inputs = [as_tensor(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    gradients = tape.gradient(
        y, inputs, error(y), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return y, gradients
