"""The feedback operation on JAX.

Input gradients are JAX's transposes of Keras's own operations, which run no forward pass.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.experimental import io_callback

from antiparallel.spec import UnsupportedError

NAME = "jax"

LACKS: frozenset[str] = frozenset()
"""What it cannot do that other engines can."""


def versions() -> dict[str, str]:
    """Return the engine's version by its name."""
    return {"jax": jax.__version__}


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
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)

    @jax.custom_vjp  # type: ignore[untyped-decorator]  # seen without its type hints
    def identity(y: Any, x: Any, *arrays: Any) -> Any:
        return y

    def forward(y: Any, x: Any, *arrays: Any) -> tuple[Any, tuple[Any, ...]]:
        return y, arrays

    def backward(arrays: tuple[Any, ...], error: Any) -> tuple[Any, ...]:
        sent = input_gradient(error, like, *arrays)
        return error, sent.astype(like.dtype), *(None for _ in arrays)

    identity.defvjp(forward, backward)
    return identity(y, x, *(jax.lax.stop_gradient(array) for array in arrays))


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
        like: Anything with x's shape.
        strides: One number per dimension.
        padding: ``"valid"`` or ``"same"``.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        dilation_rate: One number per dimension.
    """

    def convolution(x: Any) -> Any:
        return keras.ops.conv(
            x,
            kernel,
            strides=list(strides),
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
        )

    transpose = jax.linear_transpose(convolution, jax.ShapeDtypeStruct(like.shape, error.dtype))
    (sent,) = transpose(error)
    return sent


def rows_of_a_block(weight: Any) -> int:
    """Return how many rows of B a dense layer makes at a time: 0, for all."""
    return 0


def as_tensor(x: Any) -> Any:
    """Return a variable, an array or a tensor as a tensor, in the dtype that Keras computes in."""
    return keras.ops.convert_to_tensor(x)


def signed(weight: Any, magnitude: Any = 1.0) -> Any:
    """Return ``magnitude * sign(weight)``, the sign of NaN being NaN (clause R7).

    By the bits, because arithmetic here takes subnormal numbers for 0.
    """
    bits = jax.lax.bitcast_convert_type(weight, f"int{8 * weight.dtype.itemsize}")
    signs = jnp.sign(jnp.where(bits == jnp.iinfo(bits.dtype).min, 0, bits)).astype(weight.dtype)
    return jnp.where(jnp.isnan(weight), weight, signs) * magnitude


def draw_on_host(draw: Callable[[], np.ndarray[Any, Any]], like: Any, *, pure: bool) -> Any:
    """Return what a function returns that NumPy runs at each execution, in the shape of ``like``.

    Args:
        draw: The function.
        like: A tensor of the shape and dtype that are wanted.
        pure: Whether each execution returns the same.

    Raises:
        UnsupportedError: Several devices run the layer; unless pure, their draws would differ.
    """
    dtype = jnp.float64 if like.dtype == jnp.float64 else jnp.float32
    callback = jax.pure_callback if pure else io_callback

    def drawn() -> Any:
        return callback(draw, jax.ShapeDtypeStruct(like.shape, dtype)).astype(like.dtype)

    distribution = keras.distribution.distribution()
    if distribution is not None and distribution.device_mesh.devices.size > 1:
        if not pure:
            raise UnsupportedError(
                "Expected one device under ss-batch: devices cannot agree on a draw. "
                f"Received: {distribution.device_mesh.devices.size} devices"
            )
        # Each device draws; otherwise one does and sends the others its numbers.
        mesh, all_of_it = distribution.device_mesh.backend_mesh, jax.sharding.PartitionSpec()
        return jax.shard_map(drawn, mesh=mesh, in_specs=(), out_specs=all_of_it, check_vma=False)()
    return drawn()


def pullback(
    function: Callable[..., Any], inputs: Sequence[Any], error: Callable[[Any], Any]
) -> tuple[Any, list[Any]]:
    """Return ``function(*inputs)`` and the gradients of its inputs.

    Args:
        function: Takes tensors, returns one.
        inputs: The tensors.
        error: Returns the error at the output for an output.
    """
    y, back = jax.vjp(function, *inputs)
    return y, list(back(error(y)))
