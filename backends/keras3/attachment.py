"""A rule worked out for one layer: its lambda, its draws, what it keeps beside the weights."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

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
        keep_feedback: Whether it keeps numbers that never change.
        error_dtype: What errors are rounded to on their way through B.
    """

    rule: Rule
    scale: Scale
    stream: tuple[int, int]
    feedback_scale: Mapping[str, float]
    keep_feedback: bool
    error_dtype: str | None


def attachment(
    layer: WeightLayer,
    rule: Rule | str,
    scale: Scale,
    seed: Seed,
    keep_feedback: bool = True,
    error_dtype: str | None = None,
) -> Attachment:
    """Work out a rule for a built layer, which stays as it is.

    Args:
        layer: The layer.
        rule: A rule or its name.
        scale: What lambda is.
        seed: A seed, a pair (seed, layer index), or None for one from Python's generator, which
            ``keras.utils.set_random_seed`` seeds.
        keep_feedback: Whether numbers that never change are kept.
        error_dtype: What errors are rounded to on their way through B, None for their own dtype.

    Raises:
        SpecError: An argument is not allowed.
        UnsupportedError: The layer is not built, or no dense layer.
    """
    rule = as_rule(rule)
    lambdas = {kernel.name: feedback_scale(kernel.geometry, scale) for kernel in kernels(layer)}
    stream = stream_of(rule, seed)
    return Attachment(rule, scale, stream, lambdas, keep_feedback, floating(error_dtype))


def floating(error_dtype: Any) -> str | None:
    """Return the name of a floating dtype, or None for None.

    Raises:
        SpecError: It is something else.
    """
    if error_dtype is None:
        return None
    try:
        name = keras.backend.standardize_dtype(error_dtype)
    except (TypeError, ValueError):
        name = ""
    if "float" not in name:
        raise SpecError(
            "Expected error_dtype to be a floating dtype, or None. "
            f"Received: error_dtype={error_dtype!r}"
        )
    return str(name)


class FeedbackState(layers.Layer):
    """What a rule keeps beside the weights, in a layer of its own, and what it draws.

    So the weight layer's own variables, and with them the places in a file of weights, are
    those of Keras's layer.

    Args:
        owner: The layer whose rule it is.
        attachment: The rule.

    Attributes:
        entry: What it is saved as, see ``state_name``.
        stream: The seed and the index that draws are keyed by.
        counts: For ``ss-batch``, how many backward passes drew magnitudes, by the kernel's name.
        matrices: What never changes and is kept, by the kernel's name.
    """

    def __init__(self, owner: WeightLayer, attachment: Attachment) -> None:
        super().__init__(name="feedback_state", dtype=owner.dtype_policy)
        self.attachment = attachment
        self.entry = state_name(attachment.rule, attachment.keep_feedback)
        self.stream = attachment.stream
        self.counts: dict[str, int] = {}
        self.matrices: dict[str, Any] = {}
        self.places = {place[1].name: place for place in enumerate(kernels(owner))}
        for kernel in kernels(owner):
            if self.entry == "feedback_stream":
                self.counts[kernel.name] = 0
            elif not self.draws:
                self.matrices[kernel.name] = self.add_weight(
                    name=f"{kernel.name}_{self.entry}",
                    shape=kernel.shape,
                    # Keras calls it when it makes the variable, maybe after the layer was built.
                    initializer=partial(self.initial, owner, kernel),
                    dtype="int8" if self.entry.endswith("_signs") else owner.variable_dtype,
                    trainable=False,
                )
        self.built = True

    @property
    def draws(self) -> bool:
        """Whether backward passes draw."""
        return self.entry == "feedback_stream" or self.entry.endswith("_seed")

    def fixed(self, name: str) -> NDArray[Any]:
        """Draw the numbers of a kernel that never change: B, or for ``ss-fixed`` M."""
        numbers = self._drawn(name, Purpose.FEEDBACK, 0)
        return np.abs(numbers) if isinstance(self.attachment.rule, SignSymmetry) else numbers

    def magnitude(self, name: str) -> NDArray[Any]:
        """Draw the magnitudes that the next backward pass of a kernel will draw."""
        return np.abs(self._drawn(name, Purpose.BATCH_MAGNITUDE, self.counts[name]))

    def next_magnitude(self, name: str) -> NDArray[Any]:
        """Draw the magnitudes of a kernel for a backward pass, which counts."""
        magnitude = self.magnitude(name)
        self.counts[name] += 1
        return magnitude

    def initial(self, owner: WeightLayer, kernel: Kernel, shape: Any, dtype: Any = None) -> Any:
        """Return what never changes: B or its signs for feedback alignment, M for ``ss-fixed``."""
        if self.attachment.rule != FeedbackAlignment(start="sign"):
            return ops.convert_to_tensor(self.fixed(kernel.name), dtype=dtype)
        if dtype == "int8":
            return signs_of(owner, kernel)
        weight = engine.as_tensor(getattr(owner, kernel.name))
        scale = self.attachment.feedback_scale[kernel.name]
        return engine.signed(weight, rounded_scale(scale, weight.dtype))

    def _drawn(self, name: str, purpose: Purpose, count: int) -> NDArray[Any]:
        number, kernel = self.places[name]
        seed, index = self.stream
        return draw_like(
            kernel,
            self.variable_dtype,
            self.attachment.feedback_scale[name],
            seed=seed,
            index=index + number,
            purpose=purpose,
            count=count,
        )

    def save_own_variables(self, store: Any) -> None:
        """Save each matrix by its name, or what draws are keyed by: seed, index and counts."""
        if self.draws:
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
        if self.draws:
            shapes = {self.entry: (2 + len(self.counts),)}
        if {key: array.shape for key, array in found.items()} != shapes:
            raise SpecError(
                f"Expected the rule's state under the same keep_feedback, of shapes {shapes}. "
                f"Received: shapes={ {key: array.shape for key, array in found.items()} }"
            )
        if self.draws:
            seed, index, *counts = (int(number) for number in found[self.entry])
            self.stream = (seed, index)
            self.counts = dict(zip(self.counts, counts, strict=True))
        for name, matrix in self.matrices.items():
            matrix.assign(found[f"{name}_{self.entry}"])


def signs_of(layer: WeightLayer, kernel: Kernel) -> Any:
    """Return the signs of a kernel in int8.

    Raises:
        SpecError: A weight is NaN.
    """
    weight = engine.as_tensor(getattr(layer, kernel.name))
    if bool(ops.any(ops.isnan(weight))):
        raise SpecError(
            "Expected weights without NaN for fa-sign under keep_feedback=False, which keeps signs "
            f"in int8. Received: layer={layer.name!r} with NaN in {kernel.name}"
        )
    return ops.cast(engine.signed(weight), "int8")


def state_name(rule: Rule, keep_feedback: bool) -> str:
    """Return the name of what a rule keeps, empty if it keeps nothing."""
    if isinstance(rule, FeedbackAlignment):
        kept, instead = "feedback", "seed" if rule.start == "random" else "signs"
    elif isinstance(rule, Backprop) or rule.magnitude == "uniform":
        return ""
    elif rule.magnitude == "batch":
        return "feedback_stream"
    else:
        kept, instead = "magnitude", "seed"
    return kept if keep_feedback else f"{kept}_{instead}"


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
