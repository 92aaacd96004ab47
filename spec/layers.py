"""Forward and backward of every kind of weight layer, for a given feedback matrix.

Only the error that a layer sends to its input is computed with B; the gradients of its
parameters are the ordinary ones (SPEC.md, chapter F).
"""

import numpy as np

from antiparallel.spec import conv, dense
from antiparallel.spec.contract import Array, Gradients
from antiparallel.spec.errors import SpecError
from antiparallel.spec.geometry import Dense, Geometry


@np.errstate(over="ignore", invalid="ignore")  # clause N7
def forward(geometry: Geometry, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Return the layer's output, ``y = W x + b``.

    Args:
        geometry: The layer.
        x: Input, ``(..., n_in)`` or ``(batch, n_in, *spatial)``, float32 or float64.
        weight: W, in the canonical layout and in x's dtype.
        bias: b, ``(n_out,)``, in x's dtype; None for a layer without bias.

    Returns:
        y, in x's dtype.

    Raises:
        SpecError: A shape does not fit the layer, or dtypes differ (clause E4).
    """
    require_parameters(geometry, weight, bias)
    require_input(geometry, x, weight.dtype)
    if isinstance(geometry, Dense):
        y = dense.forward(x, weight)
        return y if bias is None else y + bias
    y = conv.forward(geometry, x, weight)
    return y if bias is None else y + bias.reshape(-1, *[1] * geometry.rank)


@np.errstate(over="ignore", invalid="ignore")  # clause N7
def backward(
    geometry: Geometry, x: Array, error: Array, feedback: Array, *, bias: bool = True
) -> Gradients:
    """Return the error sent to the input and the gradients of the parameters.

    ``dE/dx = op(., B)^T dE/dy``, where ``op(., W)`` is the layer's map; dE/dW and dE/db are the
    ordinary gradients for the error that arrives, and depend on neither W nor B.

    Args:
        geometry: The layer.
        x: The input that the forward pass saw.
        error: dE/dy, in the output's shape and x's dtype.
        feedback: B, in the canonical layout and x's dtype. With B = W this is backpropagation.
        bias: Whether the layer has a bias.

    Raises:
        SpecError: A shape does not fit the layer, or dtypes differ (clause E4).

    References:
        Xiao et al. (2019), Eq. 2, with its sum taken over j (clauses F2 to F4).
    """
    require_parameters(geometry, feedback, None)
    require_input(geometry, x, feedback.dtype)
    require_error(geometry, error, x.shape, x.dtype)
    if isinstance(geometry, Dense):
        to_input = dense.send_back(error, feedback)
        weight = dense.weight_gradient(x, error)
        summed: tuple[int, ...] = tuple(range(error.ndim - 1))
    else:
        to_input = conv.send_back(geometry, error, feedback, x.shape[2:])
        weight = conv.weight_gradient(geometry, x, error)
        summed = (0, *range(2, error.ndim))
    return Gradients(to_input, weight, error.sum(axis=summed) if bias else None)


def require_parameters(geometry: Geometry, weight: Array, bias: Array | None) -> None:
    """Raise SpecError unless weights (or feedback) and bias fit the layer (clause E4).

    Raises:
        SpecError: A shape is not the canonical one, or the dtype not float32 or float64.
    """
    _require_array("weight", weight)
    if weight.dtype not in (np.float32, np.float64):
        raise SpecError(
            f"Expected weights of dtype float32 or float64. Received: dtype={weight.dtype}"
        )
    _require_fit("weight", weight, geometry.weight_shape, weight.dtype)
    if bias is not None:
        _require_fit("bias", bias, (geometry.n_out,), weight.dtype)


def require_input(geometry: Geometry, x: Array, dtype: np.dtype[np.floating]) -> None:
    """Raise SpecError unless an input fits the layer and has its weights' dtype (clause E4)."""
    _require_array("x", x)
    geometry.output_shape(x.shape)
    _require_fit("x", x, x.shape, dtype)


def require_error(
    geometry: Geometry, error: Array, input_shape: tuple[int, ...], dtype: np.dtype[np.floating]
) -> None:
    """Raise SpecError unless an error fits the output for such an input (clause E4)."""
    _require_fit("error", error, geometry.output_shape(input_shape), dtype)


def _require_fit(
    name: str, array: Array, shape: tuple[int, ...], dtype: np.dtype[np.floating]
) -> None:
    _require_array(name, array)
    if array.shape != shape or array.dtype != dtype:
        raise SpecError(
            f"Expected {name} of shape {shape} and dtype {dtype}. "
            f"Received: shape={array.shape}, dtype={array.dtype}"
        )


def _require_array(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        raise SpecError(f"Expected {name} as a NumPy array. Received: {name}={array!r}")
