"""The reference as a backend, so that the conformance suite can test it like any other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiparallel.spec import layers
from antiparallel.spec.contract import (
    Array,
    Capability,
    Diagnostics,
    Gradients,
    Network,
    SGDConfig,
    Trajectory,
)
from antiparallel.spec.diagnostics import diagnose
from antiparallel.spec.errors import SpecError
from antiparallel.spec.feedback import Feedback
from antiparallel.spec.geometry import Geometry
from antiparallel.spec.initialization import initial_weight
from antiparallel.spec.rules import Rule
from antiparallel.spec.scale import Scale
from antiparallel.spec.sgd import SGD
from antiparallel.spec.trainer import train


class ReferenceLayer:
    """One weight layer under one rule; see ``contract.Layer``."""

    def __init__(
        self,
        geometry: Geometry,
        weight: Array,
        bias: Array | None,
        rule: Rule | str,
        *,
        scale: Scale = "paper",
        seed: int = 0,
        index: int = 0,
    ) -> None:
        layers.require_parameters(geometry, weight, bias)
        self._geometry = geometry
        self._feedback = Feedback(rule, geometry, weight, scale=scale, seed=seed, index=index)
        self._weight = weight.copy()
        self._bias = None if bias is None else bias.copy()

    def forward(self, x: Array) -> Array:
        """Return the layer's output for an input."""
        return layers.forward(self._geometry, x, self._weight, self._bias)

    def backward(self, x: Array, error: Array) -> Gradients:
        """Send the error back and return the gradients; counts as one backward pass."""
        gradients = layers.backward(
            self._geometry, x, error, self.feedback(), bias=self._bias is not None
        )
        self._feedback.advance()
        return gradients

    def feedback(self) -> Array:
        """Return B as the next backward pass will use it."""
        return self._feedback.matrix(self._weight).copy()

    def set_weight(self, weight: Array) -> None:
        """Replace the weights' values; fixed feedback stays."""
        self._require_same_dtype(weight)
        self._weight = weight.copy()

    def state(self) -> dict[str, Any]:
        """Return weight, bias if there is one, and the feedback's state."""
        state = {"weight": self._weight.copy(), **self._feedback.state()}
        return state if self._bias is None else state | {"bias": self._bias.copy()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a checkpoint; one that does not fit changes nothing."""
        rest = dict(state)
        weight, bias = rest.pop("weight", None), rest.pop("bias", None)
        if weight is None or (bias is None) != (self._bias is None):
            raise SpecError(
                f"Expected the state of a layer like {self._geometry} "
                f"{'without' if self._bias is None else 'with'} bias. "
                f"Received: keys={sorted(state)}"
            )
        self._require_same_dtype(weight, bias)
        self._feedback.load_state(rest)
        self._weight = weight.copy()
        self._bias = None if bias is None else bias.copy()

    def _require_same_dtype(self, weight: Array, bias: Array | None = None) -> None:
        layers.require_parameters(self._geometry, weight, bias)
        if weight.dtype != self._weight.dtype:
            raise SpecError(
                f"Expected weights of dtype {self._weight.dtype}. Received: dtype={weight.dtype}"
            )


class ReferenceBackend:
    """The specification's own backend; see ``contract.Backend``."""

    name = "reference"
    unsupported: Mapping[Capability, str] = {}

    def layer(
        self,
        geometry: Geometry,
        weight: Array,
        bias: Array | None,
        rule: Rule | str,
        *,
        scale: Scale = "paper",
        seed: int = 0,
        index: int = 0,
    ) -> ReferenceLayer:
        """Build a layer with these parameters under this rule."""
        return ReferenceLayer(geometry, weight, bias, rule, scale=scale, seed=seed, index=index)

    def initial_weight(
        self,
        geometry: Geometry,
        dtype: np.dtype[Any],
        *,
        scale: Scale = "paper",
        seed: int = 0,
        index: int = 0,
    ) -> Array:
        """Return the specification's initial weights."""
        return initial_weight(geometry, dtype, scale=scale, seed=seed, index=index)

    def diagnostics(self, weight: Array, feedback: Array) -> Diagnostics:
        """Return the diagnostics of a layer with these weights and this feedback."""
        return diagnose(weight, feedback)

    def sgd(self, config: SGDConfig, parameters: Mapping[str, Array], biases: Sequence[str]) -> SGD:
        """Return an optimizer over named parameters."""
        return SGD(config, parameters, biases)

    def train(
        self,
        network: Network,
        batches: Sequence[tuple[Array, NDArray[np.int64]]],
        config: SGDConfig,
        *,
        seed: int = 0,
    ) -> Trajectory:
        """Initialise a network by the specification and train it."""
        return train(network, batches, config, seed=seed)


backend = ReferenceBackend()
"""What the entry point ``antiparallel.backends`` names ``reference``."""
