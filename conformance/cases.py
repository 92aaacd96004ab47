"""Cases: one frozen line each, from which a check's layers and arrays are made.

A case, not its arrays, is what hypothesis draws and what a failure prints, so that a failing
example is one line to paste and shrinks to the smallest layer that fails.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from antiparallel.conformance.arrays import Dtype, Memory, Values, numbers
from antiparallel.spec import Conv, ConvTranspose, Dense, Geometry, Scale, as_rule
from antiparallel.spec.contract import (
    Array,
    Backend,
    Capability,
    Layer,
    Optimizer,
    SGDConfig,
)


@dataclass(frozen=True)
class LayerCase:
    """A layer with its rule, its parameters, an input and an error.

    Args:
        geometry: The layer.
        rule: The rule's short name.
        dtype: Dtype of every array.
        leading: The input's leading dimensions: any for a dense layer, the batch for others.
        spatial: The input's spatial sizes; ``()`` for a dense layer.
        scale: What lambda is.
        seed: The experiment's seed.
        index: The layer's place among the model's weight layers.
        bias: Whether the layer has a bias.
        weights: What kind of numbers the weights are.
        activations: What kind of numbers input and error are.
        memory: How every array lies in memory.
        data: Seed of the arrays.
    """

    geometry: Geometry
    rule: str = "bp"
    dtype: Dtype = "float64"
    leading: tuple[int, ...] = (2,)
    spatial: tuple[int, ...] = ()
    scale: Scale = "paper"
    seed: int = 0
    index: int = 0
    bias: bool = True
    weights: Values = "normal"
    activations: Values = "normal"
    memory: Memory = "C"
    data: int = 0

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        if isinstance(self.geometry, Dense):
            return (*self.leading, self.geometry.n_in)
        return (*self.leading, self.geometry.n_in, *self.spatial)

    def weight(self, number: int = 0) -> Array:
        """Return the weights; other numbers give other weights of the same kind."""
        shape = self.geometry.weight_shape
        return self._numbers(shape, self.weights, number)

    def bias_or_none(self) -> Array | None:
        """Return the bias, if there is one."""
        return self._numbers((self.geometry.n_out,), "normal", 100) if self.bias else None

    def x(self, number: int = 0) -> Array:
        """Return an input."""
        return self._numbers(self.x_shape, self.activations, 200 + number)

    def error(self, number: int = 0) -> Array:
        """Return an error, in the output's shape."""
        shape = self.geometry.output_shape(self.x_shape)
        return self._numbers(shape, self.activations, 300 + number)

    def _numbers(self, shape: tuple[int, ...], values: Values, stream: int) -> Array:
        seed = 1000 * self.data + stream
        return numbers(shape, self.dtype, values=values, memory=self.memory, seed=seed)

    def layer(self, backend: Backend, **changes: Any) -> Layer:
        """Build the layer; ``changes`` replace arguments of ``Backend.layer``."""
        arguments = {
            "geometry": self.geometry,
            "weight": self.weight(),
            "bias": self.bias_or_none(),
            "rule": self.rule,
            "scale": self.scale,
            "seed": self.seed,
            "index": self.index,
        } | changes
        return backend.layer(**arguments)

    def call(self, method: str, **changes: Any) -> str:
        """Say which call on the layer is meant, for a violation."""
        rule = changes.get("rule", self.rule)
        scale = changes.get("scale", self.scale)
        return (
            f"layer({self.geometry}, weight, bias, {rule!r}, scale={scale!r}, seed={self.seed}, "
            f"index={self.index}).{method} in {self.dtype} on x of shape {self.x_shape}"
        )

    @property
    def needs(self) -> frozenset[Capability]:
        """What a backend must be able to do for this case."""
        found = geometry_needs(self.geometry) | rule_needs(self.rule) | dtype_needs(self.dtype)
        if isinstance(self.geometry, Dense) and len(self.leading) != 1:
            found |= {"dense-leading-dimensions"}
        if prod(self.leading) == 0:
            found |= {"empty-batch"}
        return found


@dataclass(frozen=True)
class ArraysCase(LayerCase):
    """A layer case of which only the arrays are used: no backend has to build such a layer."""

    @property
    def needs(self) -> frozenset[Capability]:
        """Nothing, whatever the layer is."""
        return frozenset()


@dataclass(frozen=True)
class WeightCase:
    """Initial weights of a layer.

    Args:
        geometry: The layer.
        dtype: The weights' dtype.
        scale: What lambda is.
        seed: The experiment's seed.
        index: The layer's place among the model's weight layers.
    """

    geometry: Geometry
    dtype: Dtype = "float64"
    scale: Scale = "paper"
    seed: int = 0
    index: int = 0

    def initial(self, backend: Backend, **changes: Any) -> Array:
        """Return the backend's initial weights; ``changes`` replace arguments."""
        arguments = {"scale": self.scale, "seed": self.seed, "index": self.index} | changes
        return backend.initial_weight(self.geometry, np.dtype(self.dtype), **arguments)

    def call(self) -> str:
        """Say which call is meant, for a violation."""
        return (
            f"initial_weight({self.geometry}, {self.dtype}, scale={self.scale!r}, "
            f"seed={self.seed}, index={self.index})"
        )

    @property
    def needs(self) -> frozenset[Capability]:
        """What a backend must be able to do for this case."""
        return geometry_needs(self.geometry) | dtype_needs(self.dtype)


@dataclass(frozen=True)
class SGDCase:
    """An optimizer over a weight and a bias, and the gradients of some steps.

    Args:
        config: The optimizer's settings.
        dtype: Dtype of parameters and gradients.
        weights: What kind of numbers the parameters are.
        gradients: What kind of numbers the gradients are.
        memory: How every array lies in memory.
        steps: How many updates.
        data: Seed of the arrays.
    """

    config: SGDConfig
    dtype: Dtype = "float64"
    weights: Values = "normal"
    gradients: Values = "normal"
    memory: Memory = "C"
    steps: int = 4
    data: int = 0

    def parameters(self) -> dict[str, Array]:
        """Return the parameters before the first step."""
        return self._arrays(self.weights, 0)

    def gradients_of(self, step: int) -> dict[str, Array]:
        """Return the gradients of one step."""
        return self._arrays(self.gradients, 1 + step)

    def _arrays(self, values: Values, stream: int) -> dict[str, Array]:
        shapes: dict[str, tuple[int, ...]] = {"weight": (3, 4), "bias": (3,)}
        return {
            name: numbers(
                shape,
                self.dtype,
                values=values,
                memory=self.memory,
                seed=1000 * self.data + 10 * stream + number,
            )
            for number, (name, shape) in enumerate(shapes.items())
        }

    def optimizer(self, backend: Backend) -> Optimizer:
        """Build the optimizer."""
        return backend.sgd(self.config, self.parameters(), ["bias"])

    def call(self, step: int) -> str:
        """Say which call is meant, for a violation."""
        return f"step number {step} of sgd({self.config}, parameters, ['bias']) in {self.dtype}"

    @property
    def needs(self) -> frozenset[Capability]:
        """What a backend must be able to do for this case."""
        found = dtype_needs(self.dtype)
        if self.config.batch_manhattan:
            found |= {"batch-manhattan"}
        if self.config.keep_signs:
            found |= {"keep-signs"}
        return found


@dataclass(frozen=True)
class TrainingCase:
    """A training run.

    Args:
        rule: The rule of every layer.
        dtype: In which the network trains.
    """

    rule: str
    dtype: Dtype

    @property
    def needs(self) -> frozenset[Capability]:
        """What a backend must be able to do for this case."""
        return dtype_needs(self.dtype) | rule_needs(self.rule)


def dtype_needs(dtype: str) -> frozenset[Capability]:
    """Return the capabilities that a dtype needs."""
    return frozenset({"float64"}) if dtype == "float64" else frozenset()


def rule_needs(rule: str) -> frozenset[Capability]:
    """Return the capabilities that a rule needs."""
    needs: dict[str, Capability] = {
        "ss-fixed": "rule-ss-fixed",
        "ss-batch": "rule-ss-batch",
        "fa-sign": "rule-fa-sign",
    }
    name = as_rule(rule).name
    return frozenset({needs[name]}) if name in needs else frozenset()


def geometry_needs(geometry: Geometry) -> frozenset[Capability]:
    """Return the capabilities that a geometry needs."""
    if isinstance(geometry, Dense):
        return frozenset()
    transposed = isinstance(geometry, ConvTranspose)
    conditions: dict[Capability, bool] = {
        "convolution-1d": geometry.rank == 1,
        "convolution-3d": geometry.rank == 3,
        "transposed-convolution": transposed,
        "groups": geometry.groups > 1 and not transposed,
        "groups-transposed": geometry.groups > 1 and transposed,
        "dilation": max(geometry.dilations) > 1,
        "asymmetric-padding": _is_asymmetric(geometry),
        "strided-same-padding": geometry.padding == "same" and max(geometry.strides) > 1,
    }
    return frozenset(capability for capability, needed in conditions.items() if needed)


def _is_asymmetric(geometry: Conv | ConvTranspose) -> bool:
    if not isinstance(geometry.padding, tuple):
        return False
    return any(isinstance(pad, tuple) and pad[0] != pad[1] for pad in geometry.padding)
