"""A rule worked out for one layer: its lambda, its draws, what it keeps beside the weights."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from keras import layers, ops

from antiparallel.keras.engines import engine
from antiparallel.keras.feedback import rounded_scale
from antiparallel.keras.layout import Kernel, WeightLayer, draw_like, kernels
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

Seed: TypeAlias = int | tuple[int, int] | list[int] | None


@dataclass(frozen=True)
class Attachment:
    """A rule worked out for one layer, ready to be attached to it.

    Args:
        rule: The rule.
        scale: What lambda is, as it was asked for.
        stream: The seed and the layer index that its draws are keyed by.
        feedback_scale: lambda of each of the layer's kernels.
    """

    rule: Rule
    scale: Scale
    stream: tuple[int, int]
    feedback_scale: Mapping[str, float]


def attachment(layer: WeightLayer, rule: Rule | str, scale: Scale, seed: Seed) -> Attachment:
    """Work out a rule for a built layer, which stays as it is.

    Args:
        layer: The layer.
        rule: A rule or its name.
        scale: What lambda is.
        seed: A seed, a pair (seed, layer index), or None for one from Python's generator, which
            ``keras.utils.set_random_seed`` seeds.

    Raises:
        SpecError: An argument is not allowed.
        UnsupportedError: The layer is not built, or no dense layer.
    """
    rule = as_rule(rule)
    lambdas = {kernel.name: feedback_scale(kernel.geometry, scale) for kernel in kernels(layer)}
    return Attachment(rule, scale, stream_of(rule, seed), lambdas)


class FeedbackState(layers.Layer):
    """What a rule keeps beside the weights, in a layer of its own.

    So the weight layer's own variables, and with them the places in a file of weights, are
    those of Keras's layer.

    Args:
        owner: The layer whose rule it is.
        attachment: The rule.
    """

    def __init__(self, owner: WeightLayer, attachment: Attachment) -> None:
        super().__init__(name="feedback_state", dtype=owner.dtype_policy)
        self.entry = state_name(attachment.rule)
        self.stream = attachment.stream
        self.counts: dict[str, int] = {}
        self.matrices: dict[str, Any] = {}
        for number, kernel in enumerate(kernels(owner)):
            if self.entry == "feedback_stream":
                self.counts[kernel.name] = 0
            elif self.entry:
                self.matrices[kernel.name] = self.add_weight(
                    name=f"{kernel.name}_{self.entry}",
                    shape=kernel.shape,
                    initializer=_Initial(owner, kernel, number, attachment),
                    dtype=owner.variable_dtype,
                    trainable=False,
                )
        self.built = True

    def save_own_variables(self, store: Any) -> None:
        """Save each matrix by its name, or the seed, the index and the counts."""
        if self.entry == "feedback_stream":
            store[self.entry] = np.array([*self.stream, *self.counts.values()], np.uint64)
        for name, matrix in self.matrices.items():
            store[f"{name}_{self.entry}"] = matrix

    def load_own_variables(self, store: Any) -> None:
        """Load what was saved; a file of a model without rules changes nothing.

        Raises:
            SpecError: The state is another rule's or does not fit.
        """
        found = {key: np.asarray(store[key]) for key in store.keys()}  # noqa: SIM118 - no dict
        if not found:
            return
        shapes = {f"{name}_{self.entry}": tuple(m.shape) for name, m in self.matrices.items()}
        if self.entry == "feedback_stream":
            shapes = {self.entry: (2 + len(self.counts),)}
        if {key: array.shape for key, array in found.items()} != shapes:
            raise SpecError(
                f"Expected the rule's state, of shapes {shapes}. "
                f"Received: shapes={ {key: array.shape for key, array in found.items()} }"
            )
        if self.entry == "feedback_stream":
            seed, index, *counts = (int(number) for number in found[self.entry])
            self.stream = (seed, index)
            self.counts = dict(zip(self.counts, counts, strict=True))
        for name, matrix in self.matrices.items():
            matrix.assign(found[f"{name}_{self.entry}"])


class _Initial:
    """The start of what never changes: B for feedback alignment, M for ``ss-fixed``.

    Keras calls it when it makes the variable, which may be after the layer was built.
    """

    def __init__(
        self, owner: WeightLayer, kernel: Kernel, number: int, attachment: Attachment
    ) -> None:
        self.owner, self.kernel, self.number, self.attachment = owner, kernel, number, attachment

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        rule, scale = self.attachment.rule, self.attachment.feedback_scale[self.kernel.name]
        if rule == FeedbackAlignment(start="sign"):
            weight = engine.as_tensor(getattr(self.owner, self.kernel.name))
            return engine.signed(weight, rounded_scale(scale, weight.dtype))
        seed, index = self.attachment.stream
        numbers = draw_like(
            self.kernel,
            str(dtype),
            scale,
            seed=seed,
            index=index + self.number,
            purpose=Purpose.FEEDBACK,
        )
        numbers = np.abs(numbers) if isinstance(rule, SignSymmetry) else numbers
        return ops.convert_to_tensor(numbers, dtype=dtype)


def state_name(rule: Rule) -> str:
    """Return what the rule keeps, empty if it keeps nothing."""
    if isinstance(rule, FeedbackAlignment):
        return "feedback"
    if isinstance(rule, Backprop):
        return ""
    return {"uniform": "", "fixed": "magnitude", "batch": "feedback_stream"}[rule.magnitude]


def stream_of(rule: Rule, seed: Seed) -> tuple[int, int]:
    """Return the seed and the layer index that draws are keyed by.

    Raises:
        SpecError: The seed is none of the three.
    """
    if seed is None:
        draws = rule.name in ("fa", "ss-fixed", "ss-batch")
        # A rule without draws leaves Python's generator alone.
        seed = random.randrange(2**63) if draws else 0
    stream = tuple(seed) if isinstance(seed, tuple | list) else (seed, 0)
    if len(stream) != 2:
        raise SpecError(f"Expected seed as a number or (seed, index). Received: seed={seed!r}")
    require_word("seed", stream[0])
    require_word("index", stream[1])
    return stream
