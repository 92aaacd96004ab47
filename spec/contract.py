"""What a backend implements so that the conformance suite can test it: arrays in, arrays out.

All arrays are NumPy's, in the canonical layout (SPEC.md, clauses N1 and N2), float32 or float64;
a backend answers in the dtype it was given. Register a backend by an entry point in the group
``antiparallel.backends`` that names an object satisfying ``Backend``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from antiparallel.spec.errors import SpecError
from antiparallel.spec.geometry import Geometry
from antiparallel.spec.rules import Rule
from antiparallel.spec.scale import Scale

Array: TypeAlias = NDArray[np.floating[Any]]

Capability: TypeAlias = Literal[
    "float64",
    "dense-leading-dimensions",
    "convolution-1d",
    "convolution-3d",
    "transposed-convolution",
    "groups",
    "groups-transposed",
    "dilation",
    "asymmetric-padding",
    "strided-same-padding",
    "empty-batch",
    "rule-ss-fixed",
    "rule-ss-batch",
    "rule-fa-sign",
    "batch-manhattan",
    "keep-signs",
]
"""What a backend may declare that it cannot do. Everything else is required."""


class Gradients(NamedTuple):
    """What one backward pass of a layer yields.

    Args:
        input: The error sent to the input, in the input's shape.
        weight: dE/dW in the canonical layout.
        bias: dE/db, ``(n_out,)``, or None for a layer without bias.
    """

    input: Array
    weight: Array
    bias: Array | None


class Diagnostics(NamedTuple):
    """A layer's row in the paper's Figure 3.

    Args:
        angle: Alignment angle between flattened W and B in degrees; for ``bp`` between W and
            sign(W).
        kurtosis: Excess kurtosis of W.
        magnitude: Mean absolute value of W.
    """

    angle: float
    kurtosis: float
    magnitude: float


@dataclass(frozen=True)
class SGDConfig:
    """Settings of the specification's SGD (SPEC.md, chapter O).

    Args:
        lr: Learning rate, >= 0.
        momentum: Momentum, >= 0.
        weight_decay: Coupled (L2) weight decay, >= 0.
        nesterov: Nesterov momentum; needs momentum > 0.
        batch_manhattan: Replace each gradient by its sign, before weight decay and momentum.
        keep_signs: Stop a weight that would cross zero at +-1e-10; biases are excluded.

    Raises:
        SpecError: A setting is out of its range.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    batch_manhattan: bool = False
    keep_signs: bool = False

    def __post_init__(self) -> None:
        for field in ("lr", "momentum", "weight_decay"):
            value = getattr(self, field)
            if not (isfinite(value) and value >= 0):
                raise SpecError(f"Expected a finite {field} >= 0. Received: {field}={value!r}")
        if self.nesterov and not self.momentum:
            raise SpecError(
                f"Expected momentum > 0 for Nesterov momentum. Received: momentum={self.momentum}"
            )


@dataclass(frozen=True)
class Weighted:
    """A weight layer of a network, with its rule."""

    geometry: Geometry
    rule: Rule
    scale: Scale = "paper"


@dataclass(frozen=True)
class Network:
    """A chain of layers under softmax cross-entropy, averaged over the batch.

    Args:
        layers: Weight layers, ``"relu"``, and ``"flatten"`` (``(batch, c, *s)`` to
            ``(batch, c * prod(s))`` in C order). Weight layer number i has layer index i; every
            one has a bias that starts at zero.

    Raises:
        SpecError: A layer is none of these (clause E11).
    """

    layers: tuple[Weighted | Literal["relu", "flatten"], ...]

    def __post_init__(self) -> None:
        for layer in self.layers:
            if not isinstance(layer, Weighted) and layer not in ("relu", "flatten"):
                raise SpecError(
                    f"Expected weight layers, 'relu' and 'flatten'. Received: layer={layer!r}"
                )


class Trajectory(NamedTuple):
    """What a training run yields: losses before each update, and the final parameters.

    Args:
        losses: ``(steps,)``, in float64.
        weights: Final weights of each weight layer, in order.
        biases: Final biases of each weight layer, in order.
    """

    losses: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]


@runtime_checkable
class Layer(Protocol):
    """One weight layer under one rule (chapters F and R), with its state."""

    def forward(self, x: Array) -> Array:
        """Return the layer's output for an input (clauses N3 to N6, F1)."""
        ...

    def backward(self, x: Array, error: Array) -> Gradients:
        """Run forward on x, send the error (the output's shape) back, return the gradients.

        One backward pass (clauses F2 to F4, R4).
        """
        ...

    def feedback(self) -> Array:
        """Return B, in the canonical layout, as the next backward pass will use it (chapter R)."""
        ...

    def set_weight(self, weight: Array) -> None:
        """Replace the weights' values, as an optimizer would; fixed feedback stays (R3, R5, R6)."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint of this layer holds (clause R8)."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a checkpoint taken from a layer of the same geometry and rule (R8, E8)."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """The specification's SGD on named parameters (chapter O)."""

    def step(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        """Apply one update and return all parameters; without a gradient one stays (clause O9)."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A framework, seen through NumPy. What must raise is in chapter E.

    Attributes:
        name: The name it is registered under.
        unsupported: What it cannot do, and why; it then raises UnsupportedError (clause E2).
    """

    name: str
    unsupported: Mapping[Capability, str]

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
    ) -> Layer:
        """Build a layer with these parameters under this rule."""
        ...

    def initial_weight(
        self,
        geometry: Geometry,
        dtype: np.dtype[Any],
        *,
        scale: Scale = "paper",
        seed: int = 0,
        index: int = 0,
    ) -> Array:
        """Return the specification's initial weights for layer number ``index`` (clause I1)."""
        ...

    def diagnostics(self, weight: Array, feedback: Array) -> Diagnostics:
        """Return the diagnostics of a layer with these weights and this feedback (chapter M)."""
        ...

    def sgd(
        self, config: SGDConfig, parameters: Mapping[str, Array], biases: Sequence[str]
    ) -> Optimizer:
        """Return an optimizer over named parameters, of which ``biases`` are biases (O8)."""
        ...

    def train(
        self,
        network: Network,
        batches: Sequence[tuple[Array, NDArray[np.int64]]],
        config: SGDConfig,
        *,
        seed: int = 0,
    ) -> Trajectory:
        """Initialise a network and train it, one update per batch (chapter T)."""
        ...
