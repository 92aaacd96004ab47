"""The feedback operation: identity on a layer's output, B on the way back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from keras import ops

from antiparallel.keras.engines import engine

Draw: TypeAlias = Callable[[], np.ndarray[Any, Any]]

Magnitude: TypeAlias = Any
"""A number, a tensor, a function that draws a NumPy array, or what is drawn again."""


@dataclass(frozen=True)
class Redrawn:
    """Numbers that are not kept: each backward pass that needs them draws the same ones again.

    Args:
        draw: Draws them.
        magnitudes: Whether they are M, which takes the signs of the weights, or B itself.
    """

    draw: Draw
    magnitudes: bool


class Feedback(NamedTuple):
    """What a layer's B is made of. B itself exists only while the layer's backward runs.

    Args:
        matrix: B; or, where there is a magnitude, the weights whose sign B takes, or these signs in
            int8 beside a magnitude in B's dtype.
        magnitude: None, or M in ``B = M * sign(matrix)``: a number, a tensor, or a function that
            NumPy runs once for every backward pass; or what is drawn again instead of being kept.
        error_dtype: What error and B are rounded to before they are multiplied, None for the
            error's dtype.
    """

    matrix: Any
    magnitude: Magnitude | None = None
    error_dtype: str | None = None


class Operation(Protocol):
    """A layer's linear map, as far as its derivative with respect to the input needs it."""

    def input_gradient(self, error: Any, feedback: Any, like: Any) -> Any:
        """Return the derivative of ``error . op(x, feedback)`` for x of the shape of ``like``."""
        ...


@dataclass(frozen=True)
class Dense:
    """The map ``x W`` with W ``(n_in, n_out)``."""

    def input_gradient(self, error: Any, feedback: Any, like: Any) -> Any:
        """Return ``error B^T``."""
        return ops.matmul(error, ops.transpose(feedback))


@dataclass(frozen=True)
class EinsumDense:
    """The map ``einsum(equation, x, W)``."""

    equation: str

    def input_gradient(self, error: Any, feedback: Any, like: Any) -> Any:
        """Return the einsum in which the output and the input changed places."""
        inputs, kernel, outputs = self.equation.replace("->", ",").replace(" ", "").split(",")
        return ops.einsum(f"{outputs},{kernel}->{inputs}", error, feedback)


@dataclass(frozen=True)
class Convolution:
    """A convolution with a kernel ``(*kernel, n_in / groups, n_out)``."""

    strides: tuple[int, ...]
    padding: str
    data_format: str
    dilation_rate: tuple[int, ...]

    def input_gradient(self, error: Any, feedback: Any, like: Any) -> Any:
        """Return the error at inputs of this shape."""
        return engine.convolution_input_gradient(
            error,
            feedback,
            like,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )


@dataclass(frozen=True)
class DepthwiseConvolution(Convolution):
    """A convolution of each channel by itself, with a kernel ``(*kernel, n_in, multiplier)``."""

    def input_gradient(self, error: Any, feedback: Any, like: Any) -> Any:
        """Return the error at inputs of this shape: that of a convolution with n_in groups."""
        *kernel, n_in, multiplier = feedback.shape
        grouped = ops.reshape(feedback, (*kernel, 1, n_in * multiplier))
        return super().input_gradient(error, grouped, like)


@dataclass(frozen=True)
class TransposedConvolution:
    """A transposed convolution with a kernel ``(*kernel, n_out, n_in)``."""

    strides: tuple[int, ...]
    padding: str
    output_padding: tuple[int, ...] | None
    data_format: str
    dilation_rate: tuple[int, ...]

    def input_gradient(self, error: Any, feedback: Any, like: Any) -> Any:
        """Return the convolution of the error with B."""
        padding = self.padding
        if padding == "same" and self.output_padding is not None:
            error, padding = ops.pad(error, self._cut(feedback.shape)), "valid"
        return ops.conv(
            error,
            feedback,
            strides=list(self.strides),
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )

    def _cut(self, kernel: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return how much of the whole output Keras cuts off, per axis."""
        assert self.output_padding is not None
        cut = []
        for k, d, extra in zip(kernel, self.dilation_rate, self.output_padding, strict=False):
            span = d * (k - 1) + 1
            total = max(span - span % 2 - extra, 0)
            cut.append((total // 2, total - total // 2))
        if self.data_format == "channels_last":
            return [(0, 0), *cut, (0, 0)]
        return [(0, 0), (0, 0), *cut]


def send_back(y: Any, x: Any, feedback: Feedback, operation: Operation) -> Any:
    """Return y such that the error that arrives at it is sent to x through B.

    Args:
        y: The operation's native output, computed from ``stop_gradient(x)``; it takes the error
            as it is, for the gradients of weights and bias.
        x: The layer's input.
        feedback: What B is made of.
        operation: The layer's linear map.
    """
    matrix, magnitude, error_dtype = feedback
    known = magnitude is None or callable(magnitude) or isinstance(magnitude, float | Redrawn)
    arrays = (matrix,) if known else (matrix, magnitude)

    def input_gradient(error: Any, like: Any, matrix: Any, *given: Any) -> Any:
        whole = Feedback(matrix, given[0] if given else magnitude)
        blocks = _blocks(whole) if isinstance(operation, Dense) else [whole]
        # Under a mixed policy the error comes in the output's dtype.
        error = error if error_dtype is None else ops.cast(error, error_dtype)
        sent = [
            operation.input_gradient(error, ops.cast(matrix_of(block), error.dtype), like)
            for block in blocks
        ]
        return sent[0] if len(sent) == 1 else ops.concatenate(sent, axis=-1)

    return engine.send_back(y, x, arrays, input_gradient, drawn=callable(magnitude))


def _blocks(feedback: Feedback) -> list[Feedback]:
    """Return parts of a dense layer's B that are better made one after the other than at once.

    Each is B for some of the inputs, whose error needs no other part.
    """
    matrix, magnitude, _ = feedback
    rows = engine.rows_of_a_block(matrix)
    if magnitude is None or callable(magnitude) or isinstance(magnitude, Redrawn) or not rows:
        return [feedback]
    per_weight = len(getattr(magnitude, "shape", ())) > 0
    parts = [slice(start, start + rows) for start in range(0, matrix.shape[0], rows)]
    return [Feedback(matrix[part], magnitude[part] if per_weight else magnitude) for part in parts]


def matrix_of(feedback: Feedback) -> Any:
    """Return B."""
    matrix, magnitude, _ = feedback
    if magnitude is None:
        return matrix
    if isinstance(magnitude, float):
        return engine.signed(matrix, rounded_scale(magnitude, matrix.dtype))
    if isinstance(magnitude, Redrawn):
        drawn = engine.draw_on_host(magnitude.draw, matrix, pure=True)
        return engine.signed(matrix, drawn) if magnitude.magnitudes else drawn
    if callable(magnitude):
        magnitude = engine.draw_on_host(magnitude, matrix, pure=False)
    if "int8" in str(matrix.dtype):  # signs already
        return ops.cast(matrix, magnitude.dtype) * magnitude
    return engine.signed(matrix, ops.cast(magnitude, matrix.dtype))


def rounded_scale(scale: float, dtype: Any) -> float:
    """Return lambda as the specification rounds it: to narrow dtypes from float32 (clause R10)."""
    return scale if "float64" in str(dtype) else float(np.float32(scale))
