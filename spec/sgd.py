"""The specification's SGD: Batch Manhattan and sign-preserving updates (SPEC.md, chapter O)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from antiparallel.spec.contract import Array, SGDConfig
from antiparallel.spec.errors import SpecError

SIGN_BOUND = 1e-10
"""Where a weight stops that would reach or cross zero."""


class SGD:
    """SGD on named parameters.

    With gradient g and parameter p, in this order: ``d = sign(g)`` under Batch Manhattan, else
    g; ``d += weight_decay * p``; ``v = momentum * v + d``, v starting as d; ``d += momentum * v``
    under Nesterov, else ``d = v``; ``p' = p - lr * d``; under ``keep_signs``, where
    ``sign(p) sign(p') <= 0``, p' is the bound with the sign of p, a zero counting as positive.

    Args:
        config: The settings.
        parameters: Parameters by name; they are copied.
        biases: The names among them that are biases; ``keep_signs`` leaves them alone.

    Raises:
        SpecError: A bias is not a parameter (clause E9).

    References:
        Liao et al. (2016) for Batch Manhattan; Xiao et al. (2019), section 3 and published code,
        which also stops biases (clause O8).
    """

    def __init__(
        self, config: SGDConfig, parameters: Mapping[str, Array], biases: Sequence[str] = ()
    ) -> None:
        if unknown := set(biases) - set(parameters):
            raise SpecError(
                f"Expected biases among {sorted(parameters)}. Received: {sorted(unknown)}"
            )
        self.config = config
        self._parameters = {name: array.copy() for name, array in parameters.items()}
        self._biases = frozenset(biases)
        self._velocities: dict[str, Array] = {}

    @np.errstate(over="ignore", invalid="ignore")  # clause N7
    def step(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        """Apply one update and return all parameters.

        Args:
            gradients: Gradients by name, in the parameters' shapes and dtypes. A parameter
                without one keeps its value and its velocity.

        Raises:
            SpecError: A gradient belongs to no parameter or does not fit it (clauses E4, E9).
        """
        for name, gradient in gradients.items():
            self._require_fit(name, gradient)
        for name, gradient in gradients.items():
            self._parameters[name] = self._updated(name, gradient)
        return {name: array.copy() for name, array in self._parameters.items()}

    def _updated(self, name: str, gradient: Array) -> Array:
        config, before = self.config, self._parameters[name]
        d: Array = np.sign(gradient) if config.batch_manhattan else gradient
        if config.weight_decay:
            d = d + config.weight_decay * before
        if config.momentum:
            velocity = self._velocities.get(name)
            velocity = d if velocity is None else config.momentum * velocity + d
            self._velocities[name] = velocity
            d = d + config.momentum * velocity if config.nesterov else velocity
        after = before - config.lr * d
        if config.keep_signs and name not in self._biases:
            after = keep_signs(before, after)
        return after

    def _require_fit(self, name: str, gradient: Array) -> None:
        if name not in self._parameters:
            raise SpecError(f"Expected gradients of {sorted(self._parameters)}. Received: {name!r}")
        like = self._parameters[name]
        if gradient.shape != like.shape or gradient.dtype != like.dtype:
            raise SpecError(
                f"Expected the gradient of {name!r} of shape {like.shape} and dtype {like.dtype}. "
                f"Received: shape={gradient.shape}, dtype={gradient.dtype}"
            )


def keep_signs(before: Array, after: Array) -> Array:
    """Return updated weights, stopped at +-1e-10 where they would reach or cross zero.

    Args:
        before: Weights before the update; a zero counts as positive.
        after: Weights after it.
    """
    bound = sign_bound(before.dtype)
    crossed = np.sign(before) * np.sign(after) <= 0
    stopped = np.where(before >= 0, bound, -bound)
    return np.where(crossed, stopped, after).astype(before.dtype)


def sign_bound(dtype: np.dtype[Any]) -> float:
    """Return 1e-10, or the dtype's smallest normal number if that is larger (clause O7)."""
    return max(SIGN_BOUND, float(np.finfo(dtype).smallest_normal))
