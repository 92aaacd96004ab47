"""The specification's SGD: Batch Manhattan and sign-preserving updates."""

from math import isfinite
from typing import Any, Literal, TypeAlias

import numpy as np
from keras import ops, optimizers
from keras.saving import register_keras_serializable

from antiparallel.keras.engines import engine
from antiparallel.spec import SpecError
from antiparallel.spec.sgd import SIGN_BOUND

KeepSigns: TypeAlias = bool | Literal["all"]


@register_keras_serializable(package="antiparallel")
class SGD(optimizers.Optimizer):
    """SGD that can use the sign of gradients only, and can keep the signs of weights.

    In this order: ``d = sign(g)`` under Batch Manhattan, else g; ``d += weight_decay * p``;
    ``v = momentum * v + d``; ``d += momentum * v`` under Nesterov, else ``d = v``; ``p' = p - lr *
    d``; under ``keep_signs`` a weight that would reach or cross zero stops at ``+-1e-10`` (or the
    dtype's smallest normal number, if larger), a zero counting as positive.

    Differs from ``keras.optimizers.SGD``: weight decay is coupled (added to the gradient, before
    momentum), and the velocity is not multiplied by the learning rate.

    Args:
        learning_rate: A number >= 0, a schedule, or a function of no arguments.
        momentum: Momentum, >= 0.
        weight_decay: Coupled (L2) weight decay, >= 0.
        nesterov: Nesterov momentum; needs momentum > 0.
        batch_manhattan: Replace each gradient by its sign, before weight decay and momentum.
        keep_signs: True: for variables of two dimensions or more, which leaves out biases and
            the variables of normalisation. ``"all"``: for every variable, as the paper's published
            code does.
        **kwargs: Keras's own settings of every optimizer: clipping, moving averages, loss scale,
            gradient accumulation, name. Clipping comes before everything else.

    Raises:
        SpecError: A setting is not allowed.

    References:
        Liao et al. (2016) for Batch Manhattan; Xiao et al. (2019), section 3.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        batch_manhattan: bool = False,
        keep_signs: KeepSigns = False,
        **kwargs: Any,
    ) -> None:
        settings = {
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "batch_manhattan": batch_manhattan,
            "keep_signs": keep_signs,
        }
        if not callable(learning_rate):  # as a schedule and a function are
            settings["learning_rate"] = learning_rate
            learning_rate = float(learning_rate) if _is_number(learning_rate) else learning_rate
        _require_allowed(settings)
        # Keras's own weight_decay is decoupled, and stays off.
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum = momentum
        self.coupled_weight_decay = weight_decay
        self.nesterov = nesterov
        self.batch_manhattan = batch_manhattan
        self.keep_signs = keep_signs

    def build(self, variables: list[Any]) -> None:
        """Make a velocity of zero for each variable, if there is momentum."""
        if self.built:
            return
        super().build(variables)
        self.velocities = (
            self.add_optimizer_variables(variables, "velocity") if self.momentum else []
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Apply one update to one variable."""
        before = engine.as_tensor(variable)
        d = ops.cast(gradient, variable.dtype)
        if self.batch_manhattan:
            d = engine.signed(d)
        if self.coupled_weight_decay:
            d = d + self.coupled_weight_decay * before
        if self.momentum:
            held = self.velocities[self._get_variable_index(variable)]
            velocity = self.momentum * engine.as_tensor(held) + d
            self.assign(held, velocity)
            d = d + self.momentum * velocity if self.nesterov else velocity
        moved = ops.cast(learning_rate, variable.dtype) * d
        if self.keep_signs == "all" or (self.keep_signs and len(variable.shape) > 1):
            self.assign(variable, _keep_signs(before, moved))
        else:
            self.assign_sub(variable, moved)

    def get_config(self) -> dict[str, Any]:
        """Return Keras's own configuration and the settings."""
        return super().get_config() | {
            "momentum": self.momentum,
            "weight_decay": self.coupled_weight_decay,
            "nesterov": self.nesterov,
            "batch_manhattan": self.batch_manhattan,
            "keep_signs": self.keep_signs,
        }


def _keep_signs(before: Any, moved: Any) -> Any:
    """Return the updated weights, stopped where they would reach or cross zero."""
    # Where nothing is subtracted, an engine that takes subnormal numbers for 0 would lose them.
    after = ops.where(ops.equal(moved, 0), before, before - moved)
    bound = ops.full_like(before, _sign_bound(before.dtype))
    crossed = ops.less_equal(engine.signed(before) * engine.signed(after), 0)
    stopped = ops.where(engine.signed(before) < 0, -bound, bound)
    return ops.where(crossed, stopped, after)


def _sign_bound(dtype: Any) -> float:
    narrow = "float16" in str(dtype) and "bfloat16" not in str(dtype)
    return max(SIGN_BOUND, float(np.finfo(np.float16).smallest_normal)) if narrow else SIGN_BOUND


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_allowed(settings: dict[str, Any]) -> None:
    for field in ("learning_rate", "momentum", "weight_decay"):
        value = settings.get(field, 0.0)
        if not (_is_number(value) and isfinite(value) and value >= 0):
            raise SpecError(f"Expected a finite number {field} >= 0. Received: {field}={value!r}")
    for field in ("nesterov", "batch_manhattan"):
        value = settings[field]
        if not isinstance(value, bool):
            raise SpecError(f"Expected {field} True or False. Received: {field}={value!r}")
    keep_signs = settings["keep_signs"]
    if not (isinstance(keep_signs, bool) or keep_signs == "all"):
        raise SpecError(
            f"Expected keep_signs True, False or 'all'. Received: keep_signs={keep_signs!r}"
        )
    if settings["nesterov"] and not settings["momentum"]:
        raise SpecError("Expected momentum > 0 for Nesterov momentum. Received: momentum=0")
