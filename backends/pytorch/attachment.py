"""A rule worked out for one layer: its lambda, its draws, its fixed feedback."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from antiparallel.spec import (
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
        feedback: The numbers that never change, like the weights: B for feedback alignment, the
            magnitudes M for ``ss-fixed``, None for every other rule.
    """

    rule: Rule
    feedback_scale: float
    stream: tuple[int, int]
    feedback: Tensor | None


def attachment(layer: WeightLayer, rule: Rule | str, scale: Scale, seed: Seed) -> Attachment:
    """Work out a rule for a layer, which stays as it is.

    Args:
        layer: The layer.
        rule: A rule or its name.
        scale: What lambda is.
        seed: A seed, a pair (seed, layer index), or None for one from torch's default generator.

    Raises:
        SpecError: An argument is not allowed.
    """
    rule = as_rule(rule)
    lam = feedback_scale(geometry(layer), scale)
    stream = _stream(rule, seed)
    weight = weight_of(layer)
    return Attachment(rule, lam, stream, fixed_feedback(layer, weight, rule, lam, stream))


def fixed_feedback(
    layer: WeightLayer, weight: Tensor, rule: Rule, scale: float, stream: tuple[int, int]
) -> Tensor | None:
    """Return the numbers that a rule keeps: B, or for ``ss-fixed`` M; None for any other rule."""
    if rule == FeedbackAlignment(start="sign"):
        return signed(weight, scale)
    if rule not in (FeedbackAlignment(), SignSymmetry(magnitude="fixed")):
        return None
    if weight.is_meta:
        return torch.empty_like(weight)
    seed, index = stream
    numbers = draw_like(layer, weight, scale, seed=seed, index=index, purpose=Purpose.FEEDBACK)
    return numbers.abs_() if isinstance(rule, SignSymmetry) else numbers


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
