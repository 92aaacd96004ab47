"""The specification's SGD: Batch Manhattan and sign-preserving updates."""

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from antiparallel.spec import SpecError, UnsupportedError
from antiparallel.spec.sgd import SIGN_BOUND
from antiparallel.torch.feedback import signed

KeepSigns: TypeAlias = bool | Literal["all"]


class SGD(Optimizer):
    """SGD that can use the sign of gradients only, and can keep the signs of weights.

    In this order: ``d = sign(g)`` under Batch Manhattan, else g; ``d += weight_decay * p``;
    ``v = momentum * v + d``, v starting as d; ``d += momentum * v`` under Nesterov, else
    ``d = v``; ``p' = p - lr * d``; under ``keep_signs`` a weight that would reach or cross zero
    stops at ``+-1e-10`` (or the dtype's smallest normal number, if larger), a zero counting as
    positive. Without the last two options this is ``torch.optim.SGD``, whose state it shares.

    Args:
        params: Parameters, named parameters or groups; each setting can differ per group.
        lr: Learning rate, >= 0.
        momentum: Momentum, >= 0.
        weight_decay: Coupled (L2) weight decay, >= 0.
        nesterov: Nesterov momentum; needs momentum > 0.
        batch_manhattan: Replace each gradient by its sign, before weight decay and momentum.
        keep_signs: True: for parameters of two dimensions or more, which leaves out biases and
            the parameters of normalisation. ``"all"``: for every parameter of the group, as the
            paper's published code does.

    Raises:
        SpecError: A setting is not allowed.

    References:
        Liao et al. (2016) for Batch Manhattan; Xiao et al. (2019), section 3.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        batch_manhattan: bool = False,
        keep_signs: KeepSigns = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "batch_manhattan": batch_manhattan,
            "keep_signs": keep_signs,
        }
        _require_allowed(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, whose settings are checked first."""
        _require_allowed({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a saved state, also one of torch's own SGD, whose groups lack our settings."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def step(  # type: ignore[override]  # torch declares overloads for the closure
        self, closure: Callable[[], Tensor] | None = None
    ) -> Tensor | None:
        """Apply one update; a parameter without gradient keeps its value and its velocity.

        Args:
            closure: Evaluates the model again and returns the loss.

        Raises:
            UnsupportedError: A gradient is sparse; nothing is updated.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    raise UnsupportedError("Expected dense gradients. Received: a sparse gradient")
        for group in self.param_groups:
            self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        d = [p.grad for p in parameters]
        if group["batch_manhattan"]:
            d = [signed(x, 1.0) for x in d]
        if group["weight_decay"]:
            d = list(torch._foreach_add(d, parameters, alpha=group["weight_decay"]))
        if group["momentum"]:
            velocities = self._velocities(parameters, d, group["momentum"])
            if group["nesterov"]:
                d = list(torch._foreach_add(d, velocities, alpha=group["momentum"]))
            else:
                d = velocities
        keep = group["keep_signs"]
        kept = [p for p in parameters if keep == "all" or (keep and p.dim() > 1)]
        before = [p.clone() for p in kept]
        torch._foreach_add_(parameters, d, alpha=-group["lr"])
        for old, parameter in zip(before, kept, strict=True):
            _keep_signs(old, parameter)

    def _velocities(
        self, parameters: list[Tensor], d: list[Tensor], momentum: float
    ) -> list[Tensor]:
        """Return each velocity after it took in d; a first one is d."""
        known, taken_in = [], []
        for parameter, x in zip(parameters, d, strict=True):
            state = self.state[parameter]
            # torch's own SGD saves None where it had no momentum.
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = x.detach().clone()
            else:
                known.append(state["momentum_buffer"])
                taken_in.append(x)
        if known:
            torch._foreach_mul_(known, momentum)
            torch._foreach_add_(known, taken_in)
        return [self.state[parameter]["momentum_buffer"] for parameter in parameters]


def _keep_signs(before: Tensor, after: Tensor) -> None:
    """Stop updated weights, in place, where they would reach or cross zero."""
    bound = max(SIGN_BOUND, torch.finfo(after.dtype).smallest_normal)
    crossed = before.sign() * after.clamp(-1, 1) <= 0  # False for NaN, which stays
    stopped = torch.full_like(after, bound).where(before >= 0, -bound)
    after.copy_(torch.where(crossed, stopped, after))


def _require_allowed(settings: dict[str, Any]) -> None:
    for field in ("lr", "momentum", "weight_decay"):
        value = settings[field]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and isfinite(value) and value >= 0):
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
