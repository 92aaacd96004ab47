"""The feedback matrix B of a layer: what each rule makes of the weights (SPEC.md, chapter R)."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from antiparallel.spec.contract import Array
from antiparallel.spec.draws import Purpose, draw, require_word, rounded
from antiparallel.spec.errors import SpecError
from antiparallel.spec.geometry import Geometry
from antiparallel.spec.layers import require_parameters
from antiparallel.spec.rules import Backprop, FeedbackAlignment, Rule, SignSymmetry, as_rule
from antiparallel.spec.scale import Scale, feedback_scale


class Feedback:
    """The process that gives a layer's B at each backward pass.

    ============  ============================================
    ``bp``        W
    ``ss``        lambda * sign(W)
    ``ss-fixed``  abs(F) * sign(W), F drawn once
    ``ss-batch``  abs(F_t) * sign(W), F_t drawn at backward t
    ``fa``        F, drawn once
    ``fa-sign``   lambda * sign(W_0)
    ============  ============================================

    Args:
        rule: A rule or its name.
        geometry: The layer.
        weight: W_0, the weights when the rule is attached, in the canonical layout.
        scale: What lambda is.
        seed: The experiment's seed.
        index: The layer's place among the model's weight layers.

    Raises:
        SpecError: An argument is not allowed (clauses E3 to E6).
    """

    def __init__(
        self,
        rule: Rule | str,
        geometry: Geometry,
        weight: Array,
        *,
        scale: Scale = "paper",
        seed: int = 0,
        index: int = 0,
    ) -> None:
        require_parameters(geometry, weight, None)
        require_word("seed", seed)
        require_word("index", index)
        self.rule = as_rule(rule)
        self.geometry = geometry
        self.scale = feedback_scale(geometry, scale)
        self._seed, self._index = seed, index
        self._kept = self._start(weight)

    def matrix(self, weight: Array) -> Array:
        """Return B, in the canonical layout, as the next backward pass will use it.

        Args:
            weight: W as it is now; B has its dtype.

        Raises:
            SpecError: The weights do not fit the layer (clause E4).
        """
        require_parameters(self.geometry, weight, None)
        match self.rule:
            case Backprop():
                return weight
            case SignSymmetry(magnitude="uniform"):
                return self._lambda_sign(weight)
            case SignSymmetry(magnitude="fixed"):
                magnitude: Array = self._kept["magnitude"]
            case SignSymmetry():
                drawn = self._draw(Purpose.BATCH_MAGNITUDE, weight, self._kept["count"])
                magnitude = np.abs(drawn)
            case FeedbackAlignment():
                fixed: Array = self._kept["feedback"]
                return fixed.astype(weight.dtype)
        return magnitude.astype(weight.dtype) * np.sign(weight)

    def advance(self) -> None:
        """Count one backward pass; only ``ss-batch`` depends on the count."""
        if "count" in self._kept:
            self._kept["count"] += 1

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold for B to go on as it would have (clause R8).

        Nothing for bp and ss; ``"magnitude"``, abs(F), for ss-fixed; ``"count"``, the number of
        backward passes, for ss-batch; ``"feedback"``, B, for fa and fa-sign.
        """
        return deepcopy(self._kept)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state that feedback of the same rule for the same layer gave.

        Raises:
            SpecError: The state is another rule's or another layer's (clause E8).
        """
        if state.keys() != self._kept.keys():
            raise SpecError(
                f"Expected the state of rule {self.rule.name!r}: {sorted(self._kept)}. "
                f"Received: keys={sorted(state)}"
            )
        for key, value in state.items():
            if key == "count":
                require_word(key, value)
            else:
                require_parameters(self.geometry, value, None)
        self._kept = deepcopy(dict(state))

    def _start(self, weight: Array) -> dict[str, Any]:
        """Return what the rule keeps from one backward pass to the next."""
        match self.rule:
            case SignSymmetry(magnitude="fixed"):
                return {"magnitude": np.abs(self._draw(Purpose.FEEDBACK, weight))}
            case SignSymmetry(magnitude="batch"):
                return {"count": 0}
            case FeedbackAlignment(start="random"):
                return {"feedback": self._draw(Purpose.FEEDBACK, weight)}
            case FeedbackAlignment(start="sign"):
                return {"feedback": self._lambda_sign(weight)}
        return {}

    def _draw(self, purpose: Purpose, weight: Array, count: int = 0) -> Array:
        return draw(
            self.geometry,
            self.scale,
            seed=self._seed,
            index=self._index,
            purpose=purpose,
            count=count,
            dtype=weight.dtype,
        )

    def _lambda_sign(self, weight: Array) -> Array:
        return rounded(np.array(self.scale), weight.dtype) * np.sign(weight)
