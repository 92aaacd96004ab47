"""A backend from outside the project: dense layers and convolutions in plain NumPy.

The arithmetic is its own, a loop over a kernel's taps. Rules, draws and the optimizer are taken
from ``antiparallel.spec``, as any backend on top of NumPy would; transposed convolutions are left
out, and said to be.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from antiparallel.spec import Conv, ConvTranspose, Dense, Geometry, Rule, Scale, UnsupportedError
from antiparallel.spec.contract import (
    Array,
    Capability,
    Diagnostics,
    Gradients,
    Network,
    SGDConfig,
    Trajectory,
    Weighted,
)
from antiparallel.spec.diagnostics import diagnose
from antiparallel.spec.errors import SpecError
from antiparallel.spec.feedback import Feedback
from antiparallel.spec.initialization import initial_weight
from antiparallel.spec.layers import require_error, require_input, require_parameters
from antiparallel.spec.sgd import SGD
from antiparallel.spec.trainer import softmax_cross_entropy

_TRANSPOSED = "transposed convolutions are not written yet"


class Taps:
    """A convolution's input and weights, tap by tap: what each tap of the kernel sees."""

    def __init__(self, geometry: Conv, shape: tuple[int, ...]) -> None:
        self.geometry, self.shape = geometry, shape
        self.pads = [(0, 0), (0, 0), *geometry.pads(shape[2:])]
        self.sizes = geometry.output_shape(shape)[2:]

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
        """Yield each tap, and the places of the padded input that it sees."""
        steps = zip(self.geometry.dilations, self.geometry.strides, self.sizes, strict=True)
        moves = list(steps)
        for tap in np.ndindex(*self.geometry.kernel):
            places = tuple(
                slice(k * dilation, k * dilation + stride * (size - 1) + 1, stride)
                for k, (dilation, stride, size) in zip(tap, moves, strict=True)
            )
            yield tap, (..., *places)

    def padded(self, x: Array) -> Array:
        """Return the input with its zeros, channels in their groups."""
        x = np.pad(x, self.pads)
        groups = self.geometry.groups
        return x.reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:])

    def grouped(self, y: Array) -> Array:
        """Return an output, channels in their groups."""
        groups = self.geometry.groups
        return y.reshape(len(y), groups, y.shape[1] // groups, *y.shape[2:])

    def matrices(self, weight: Array, tap: tuple[int, ...]) -> Array:
        """Return a tap's weights, ``(groups, out, in)``."""
        places: tuple[Any, ...] = (slice(None), slice(None), *tap)
        chosen: Array = weight[places]
        return chosen.reshape(self.geometry.groups, -1, chosen.shape[1])

    def unpadded(self, x: Array) -> Array:
        """Return what ``padded`` was given, from its result."""
        x = x.reshape(len(x), x.shape[1] * x.shape[2], *x.shape[3:])
        inside = [
            slice(before, size - after)
            for (before, after), size in zip(self.pads, x.shape, strict=True)
        ]
        return x[tuple(inside)]


def forward(geometry: Dense | Conv, x: Array, weight: Array) -> Array:
    """Return ``W x`` (clauses N3 to N6)."""
    if isinstance(geometry, Dense):
        return x @ weight.T
    taps = Taps(geometry, x.shape)
    padded = taps.padded(x)
    y = taps.grouped(np.zeros(geometry.output_shape(x.shape), x.dtype))
    for tap, seen in taps:
        y += np.einsum("bgi...,goi->bgo...", padded[seen], taps.matrices(weight, tap))
    return y.reshape(geometry.output_shape(x.shape))


def backward(
    geometry: Dense | Conv, x: Array, error: Array, feedback: Array
) -> tuple[Array, Array]:
    """Return the error sent through B, and the ordinary gradient of W (clauses F2, F3)."""
    if isinstance(geometry, Dense):
        rows, errors = x.reshape(-1, x.shape[-1]), error.reshape(-1, error.shape[-1])
        return error @ feedback, errors.T @ rows
    taps = Taps(geometry, x.shape)
    padded, arriving = taps.padded(x), taps.grouped(error)
    sent, gradient = np.zeros_like(padded), np.zeros(geometry.weight_shape, x.dtype)
    for tap, seen in taps:
        sent[seen] += np.einsum("bgo...,goi->bgi...", arriving, taps.matrices(feedback, tap))
        saw = padded[seen]
        flat = (array.reshape(*array.shape[:3], prod(taps.sizes)) for array in (arriving, saw))
        found = np.einsum("bgox,bgix->goi", *flat)
        places: tuple[Any, ...] = (slice(None), slice(None), *tap)
        gradient[places] = found.reshape(gradient.shape[:2])
    return taps.unpadded(sent), gradient


class ExampleLayer:
    """One weight layer under one rule; see ``antiparallel.spec.contract.Layer``."""

    def __init__(
        self, geometry: Geometry, weight: Array, bias: Array | None, rule: Rule | str, **draws: Any
    ) -> None:
        if isinstance(geometry, ConvTranspose):
            raise UnsupportedError(
                f"Expected a dense layer or a convolution: {_TRANSPOSED}. "
                f"Received: geometry={geometry}"
            )
        require_parameters(geometry, weight, bias)
        self.geometry = geometry
        self.weight = weight.copy()
        self.bias = None if bias is None else bias.copy()
        self._feedback = Feedback(rule, geometry, weight, **draws)

    @np.errstate(over="ignore", invalid="ignore")
    def forward(self, x: Array) -> Array:
        """Return the layer's output for an input."""
        require_input(self.geometry, x, self.weight.dtype)
        y = forward(self.geometry, x, self.weight)
        rank = 0 if isinstance(self.geometry, Dense) else self.geometry.rank
        return y if self.bias is None else y + self.bias.reshape(-1, *[1] * rank)

    @np.errstate(over="ignore", invalid="ignore")
    def backward(self, x: Array, error: Array) -> Gradients:
        """Send the error back and return the gradients; counts as one backward pass."""
        require_input(self.geometry, x, self.weight.dtype)
        require_error(self.geometry, error, x.shape, x.dtype)
        sent, weight = backward(self.geometry, x, error, self.feedback())
        self._feedback.advance()
        channel = error.ndim - 1 if isinstance(self.geometry, Dense) else 1
        summed = tuple(axis for axis in range(error.ndim) if axis != channel)
        return Gradients(sent, weight, None if self.bias is None else error.sum(axis=summed))

    def feedback(self) -> Array:
        """Return B as the next backward pass will use it."""
        return self._feedback.matrix(self.weight).copy()

    def set_weight(self, weight: Array) -> None:
        """Replace the weights' values; fixed feedback stays."""
        self._require_like({"weight": weight})
        self.weight = weight.copy()

    def state(self) -> dict[str, Any]:
        """Return weight, bias if there is one, and the feedback's state."""
        return {**self._parameters(), **self._feedback.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a checkpoint; one that does not fit changes nothing."""
        names = self._parameters().keys()
        if not names <= state.keys():
            raise SpecError(f"Expected {', '.join(names)}. Received: keys={sorted(state)}")
        self._require_like({name: state[name] for name in names})
        self._feedback.load_state({key: state[key] for key in state if key not in names})
        self.weight = state["weight"].copy()
        self.bias = None if self.bias is None else state["bias"].copy()

    def _parameters(self) -> dict[str, Array]:
        weight = {"weight": self.weight.copy()}
        return weight if self.bias is None else {**weight, "bias": self.bias.copy()}

    def _require_like(self, parameters: Mapping[str, Array]) -> None:
        require_parameters(self.geometry, parameters["weight"], parameters.get("bias"))
        if parameters["weight"].dtype != self.weight.dtype:
            raise SpecError(
                f"Expected weights of dtype {self.weight.dtype}. "
                f"Received: dtype={parameters['weight'].dtype}"
            )


class ExampleBackend:
    """This backend; see ``antiparallel.spec.contract.Backend``."""

    name = "example"
    unsupported: ClassVar[Mapping[Capability, str]] = {
        "transposed-convolution": _TRANSPOSED,
        "groups-transposed": _TRANSPOSED,
    }
    versions: ClassVar[dict[str, str]] = {"numpy": np.__version__}

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
    ) -> ExampleLayer:
        """Build a layer with these parameters under this rule."""
        return ExampleLayer(geometry, weight, bias, rule, scale=scale, seed=seed, index=index)

    def initial_weight(
        self,
        geometry: Geometry,
        dtype: np.dtype[Any],
        *,
        scale: Scale = "paper",
        seed: int = 0,
        index: int = 0,
    ) -> Array:
        """Return the specification's initial weights, which are draws of its own."""
        return initial_weight(geometry, dtype, scale=scale, seed=seed, index=index)

    def diagnostics(self, weight: Array, feedback: Array) -> Diagnostics:
        """Return the diagnostics of a layer with these weights and this feedback."""
        return diagnose(weight, feedback)

    def sgd(self, config: SGDConfig, parameters: Mapping[str, Array], biases: Sequence[str]) -> SGD:
        """Return an optimizer over named parameters."""
        return SGD(config, parameters, biases)

    @np.errstate(over="ignore", invalid="ignore")
    def train(
        self,
        network: Network,
        batches: Sequence[tuple[Array, NDArray[np.int64]]],
        config: SGDConfig,
        *,
        seed: int = 0,
    ) -> Trajectory:
        """Initialise a network by the specification and train it."""
        if not batches:
            raise SpecError("Expected at least one batch. Received: batches=[]")
        chain = self._chain(network, batches[0][0].dtype, seed)
        layers = [layer for layer in chain if isinstance(layer, ExampleLayer)]
        parameters = {
            f"{number}.{name}": value
            for number, layer in enumerate(layers)
            for name, value in layer._parameters().items()
        }
        optimizer = SGD(config, parameters, [name for name in parameters if "bias" in name])
        losses = []
        for x, labels in batches:
            loss, gradients = _loss_and_gradients(chain, x, labels)
            updated = optimizer.step(gradients)
            for number, layer in enumerate(layers):
                layer.weight, layer.bias = updated[f"{number}.weight"], updated[f"{number}.bias"]
            losses.append(loss)
        return Trajectory(
            np.array(losses, np.float64),
            tuple(layer.weight for layer in layers),
            tuple(layer.bias for layer in layers if layer.bias is not None),
        )

    def _chain(self, network: Network, dtype: np.dtype[Any], seed: int) -> list[Any]:
        chain: list[Any] = []
        for layer in network.layers:
            if isinstance(layer, Weighted):
                index = sum(isinstance(one, ExampleLayer) for one in chain)
                draws: Any = {"scale": layer.scale, "seed": seed, "index": index}
                weight = self.initial_weight(layer.geometry, dtype, **draws)
                bias = np.zeros(layer.geometry.n_out, dtype)
                chain.append(ExampleLayer(layer.geometry, weight, bias, layer.rule, **draws))
            else:
                chain.append(layer)
        return chain


def _loss_and_gradients(
    chain: Sequence[Any], x: Array, labels: NDArray[np.int64]
) -> tuple[float, dict[str, Array]]:
    entering = []
    for layer in chain:
        entering.append(x)
        if isinstance(layer, ExampleLayer):
            x = layer.forward(x)
        else:
            x = np.maximum(x, 0) if layer == "relu" else x.reshape(len(x), prod(x.shape[1:]))
    loss, error = softmax_cross_entropy(x, labels)
    gradients: dict[str, Array] = {}
    number = sum(isinstance(layer, ExampleLayer) for layer in chain)
    for layer, x in zip(reversed(chain), reversed(entering), strict=True):
        if isinstance(layer, ExampleLayer):
            number -= 1
            error, weight, bias = layer.backward(x, error)
            found = {f"{number}.weight": weight, f"{number}.bias": bias}
            gradients |= {name: value for name, value in found.items() if value is not None}
        else:
            error = error * (x > 0) if layer == "relu" else error.reshape(x.shape)
    return loss, gradients


backend = ExampleBackend()
"""What the entry point ``antiparallel.backends`` names ``example``."""
