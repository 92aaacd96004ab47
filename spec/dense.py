"""The dense layer ``y = x W^T + b`` and its two gradients (SPEC.md, clauses N3, F2, F4)."""

from antiparallel.spec.contract import Array


def forward(x: Array, weight: Array) -> Array:
    """Return ``x W^T``, ``(..., n_out)``, for x ``(..., n_in)`` and W ``(n_out, n_in)``."""
    return x @ weight.T


def send_back(error: Array, feedback: Array) -> Array:
    """Return the error sent to the input, ``error B``: ``(..., n_in)``."""
    return error @ feedback


def weight_gradient(x: Array, error: Array) -> Array:
    """Return dE/dW, ``(n_out, n_in)``: the outer products summed over all leading dimensions."""
    return error.reshape(-1, error.shape[-1]).T @ x.reshape(-1, x.shape[-1])
