"""A rule worked out for one layer: its lambda, its draws, its fixed feedback."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from antiparallel.spec import (
    Backprop,
    FeedbackAlignment,
    Rule,
    Scale,
    SignSymmetry,
    SpecError,
    as_rule,
    feedback_scale,
)
from antiparallel.spec.draws import Purpose, require_word
from antiparallel.torch.feedback import signed
from antiparallel.torch.layout import WeightLayer, draw_like, geometry, weight_of

Seed: TypeAlias = int | tuple[int, int] | None


@dataclass(frozen=True)
class Attachment:
    """A rule worked out for one layer, ready to be attached to it.

    Args:
        rule: The rule.
        feedback_scale: lambda.
        stream: The seed and the layer index that its draws are keyed by.
        keep_feedback: Whether it keeps numbers that never change.
        error_dtype: What errors are rounded to on their way through B.
        feedback: What it keeps, see ``kept_feedback``.
    """

    rule: Rule
    feedback_scale: float
    stream: tuple[int, int]
    keep_feedback: bool
    error_dtype: torch.dtype | None
    feedback: Tensor | None


def attachment(
    layer: WeightLayer,
    rule: Rule | str,
    scale: Scale,
    seed: Seed,
    keep_feedback: bool = True,
    error_dtype: torch.dtype | None = None,
) -> Attachment:
    """Work out a rule for a layer, which stays as it is.

    Args:
        layer: The layer.
        rule: A rule or its name.
        scale: What lambda is.
        seed: A seed, a pair (seed, layer index), or None for one from torch's default generator.
        keep_feedback: Whether numbers that never change are kept.
        error_dtype: What errors are rounded to on their way through B, None for their own dtype.

    Raises:
        SpecError: An argument is not allowed, or weights are NaN whose signs are to be kept alone.
    """
    rule = as_rule(rule)
    if error_dtype is not None and not getattr(error_dtype, "is_floating_point", False):
        raise SpecError(
            "Expected error_dtype to be a floating dtype of torch's, or None. "
            f"Received: error_dtype={error_dtype!r}"
        )
    lam = feedback_scale(geometry(layer), scale)
    stream = _stream(rule, seed)
    weight = weight_of(layer)
    kept = kept_feedback(layer, weight, rule, lam, stream, keep_feedback)
    return Attachment(rule, lam, stream, keep_feedback, error_dtype, kept)


def kept_feedback(
    layer: WeightLayer,
    weight: Tensor,
    rule: Rule,
    scale: float,
    stream: tuple[int, int],
    keep_feedback: bool,
) -> Tensor | None:
    """Return what a rule keeps beside the weights.

    Raises:
        SpecError: Of a weight that is NaN int8 would have to hold the sign.

    Returns:
        B for feedback alignment, M for ``ss-fixed``, None for every other rule. Without
        ``keep_feedback`` the signs of B, in int8, for ``fa-sign``, otherwise None.
    """
    if keep_feedback:
        return fixed_feedback(layer, weight, rule, scale, stream)
    return _signs(weight) if rule == FeedbackAlignment(start="sign") else None


def fixed_feedback(
    layer: WeightLayer, weight: Tensor, rule: Rule, scale: float, stream: tuple[int, int]
) -> Tensor | None:
    """Return a rule's numbers that never change: B, or for ``ss-fixed`` M; None if it has none."""
    if rule == FeedbackAlignment(start="sign"):
        return signed(weight, scale)
    if rule not in (FeedbackAlignment(), SignSymmetry(magnitude="fixed")):
        return None
    if weight.is_meta:
        return torch.empty_like(weight)
    seed, index = stream
    numbers = draw_like(layer, weight, scale, seed=seed, index=index, purpose=Purpose.FEEDBACK)
    return numbers.abs_() if isinstance(rule, SignSymmetry) else numbers


def state_name(rule: Rule, keep_feedback: bool) -> str:
    """Return the name of a rule's entry in a state dict, empty if it adds none."""
    if isinstance(rule, FeedbackAlignment):
        kept, instead = "feedback", "seed" if rule.start == "random" else "signs"
    elif isinstance(rule, Backprop) or rule.magnitude == "uniform":
        return ""
    elif rule.magnitude == "batch":
        return "feedback_stream"
    else:
        kept, instead = "magnitude", "seed"
    return kept if keep_feedback else f"{kept}_{instead}"


def _signs(weight: Tensor) -> Tensor:
    if weight.is_meta:
        return torch.empty_like(weight, dtype=torch.int8)
    if weight.isnan().any():
        raise SpecError(
            "Expected weights without NaN for fa-sign under keep_feedback=False, which keeps signs "
            f"in int8. Received: {int(weight.isnan().sum())} NaN in weights of shape "
            f"{tuple(weight.shape)}"
        )
    return signed(weight, 1.0).to(torch.int8)


def _stream(rule: Rule, seed: Seed) -> tuple[int, int]:
    if seed is None:
        draws = rule.name in ("fa", "ss-fixed", "ss-batch")
        # A rule without draws leaves torch's generator alone.
        seed = int(torch.randint(2**63 - 1, (), device="cpu")) if draws else 0
    stream = seed if isinstance(seed, tuple) else (seed, 0)
    if len(stream) != 2:
        raise SpecError(f"Expected seed as a number or (seed, index). Received: seed={seed!r}")
    require_word("seed", stream[0])
    require_word("index", stream[1])
    return stream
