"""This backend as the conformance suite sees it: arrays in, arrays out (spec.contract.Backend)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from antiparallel.spec import (
    Geometry,
    Rule,
    Scale,
    SpecError,
    feedback_scale,
)
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
from antiparallel.spec.draws import Purpose
from antiparallel.spec.layers import require_input, require_parameters
from antiparallel.torch.attachment import attachment
from antiparallel.torch.layout import draw_like, from_canonical, to_canonical
from antiparallel.torch.optimizers import SGD
from antiparallel.torch.padded_layer import PaddedLayer, backprop_layer


class TorchLayer:
    """One weight layer under one rule; see ``spec.contract.Layer``."""

    def __init__(
        self,
        geometry: Geometry,
        weight: Array,
        bias: Array | None,
        rule: Rule | str,
        scale: Scale,
        stream: tuple[int, int],
    ) -> None:
        require_parameters(geometry, weight, bias)
        self._geometry = geometry
        self.module = PaddedLayer(geometry, _tensor(weight).dtype, bias is not None)
        self._layer: Any = self.module.layer
        self._set(self._layer.weight, from_canonical(self._layer, _tensor(weight)))
        if bias is not None:
            self._set(self._layer.bias, _tensor(bias))
        self._layer.attach(attachment(self._layer, rule, scale, stream))

    def forward(self, x: Array) -> Array:
        """Return the layer's output for an input."""
        self._require_input(x)
        return _array(self.module(_tensor(x)))

    def backward(self, x: Array, error: Array) -> Gradients:
        """Run forward on x, send the error back, return the gradients."""
        self._require_input(x)
        entering = _tensor(x).requires_grad_()
        y = self.module(entering)
        if error.shape != y.shape or error.dtype != x.dtype:
            raise SpecError(
                f"Expected an error of shape {tuple(y.shape)} and dtype {x.dtype}. "
                f"Received: shape={error.shape}, dtype={error.dtype}"
            )
        parameters = [p for p in (self._layer.weight, self._layer.bias) if p is not None]
        sent, weight, *bias = torch.autograd.grad(y, [entering, *parameters], _tensor(error))
        return Gradients(
            _array(sent),
            _array(to_canonical(self._layer, weight)),
            _array(bias[0]) if bias else None,
        )

    def feedback(self) -> Array:
        """Return B as the next backward pass will use it."""
        return _array(to_canonical(self._layer, self._layer.feedback_matrix()))

    def set_weight(self, weight: Array) -> None:
        """Replace the weights' values; fixed feedback stays."""
        require_parameters(self._geometry, weight, None)
        tensor = _tensor(weight)
        if tensor.dtype != self._layer.weight.dtype:
            raise SpecError(
                f"Expected weights of dtype {self._layer.weight.dtype}. "
                f"Received: dtype={weight.dtype}"
            )
        self._set(self._layer.weight, from_canonical(self._layer, tensor))

    def state(self) -> dict[str, Any]:
        """Return the layer's state dict, as arrays."""
        return {name: _array(tensor) for name, tensor in self._layer.state_dict().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state; one that does not fit changes nothing."""
        own = self.state()
        if state.keys() != own.keys():
            raise SpecError(
                f"Expected the state of rule {self._layer.rule.name!r}: {sorted(own)}. "
                f"Received: keys={sorted(state)}"
            )
        for name, mine in own.items():
            shape, dtype = np.shape(state[name]), getattr(state[name], "dtype", None)
            if shape != mine.shape or dtype != mine.dtype:
                raise SpecError(
                    f"Expected {name} of shape {mine.shape} and dtype {mine.dtype}. "
                    f"Received: shape={shape}, dtype={dtype}"
                )
        self._layer.load_state_dict({name: _tensor(array) for name, array in state.items()})

    def _require_input(self, x: Array) -> None:
        require_input(self._geometry, x, np.dtype(str(self._layer.weight.dtype).split(".")[1]))

    @staticmethod
    def _set(parameter: Tensor, value: Tensor) -> None:
        with torch.no_grad():
            parameter.copy_(value)


class TorchOptimizer:
    """The backend's SGD on named arrays; see ``spec.contract.Optimizer``."""

    def __init__(
        self, config: SGDConfig, parameters: Mapping[str, Array], biases: Sequence[str]
    ) -> None:
        if unknown := set(biases) - set(parameters):
            raise SpecError(
                f"Expected biases among {sorted(parameters)}. Received: {sorted(unknown)}"
            )
        self._parameters = {name: nn.Parameter(_tensor(a)) for name, a in parameters.items()}
        self._optimizer = _sgd(
            config,
            weights=[p for name, p in self._parameters.items() if name not in biases],
            biases=[p for name, p in self._parameters.items() if name in biases],
        )

    def step(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        """Apply one update and return all parameters."""
        for name, gradient in gradients.items():
            if name not in self._parameters:
                raise SpecError(
                    f"Expected gradients of {sorted(self._parameters)}. Received: {name!r}"
                )
            like = self._parameters[name]
            if gradient.shape != like.shape or _tensor(gradient).dtype != like.dtype:
                raise SpecError(
                    f"Expected the gradient of {name!r} of shape {tuple(like.shape)} and dtype "
                    f"{like.dtype}. Received: shape={gradient.shape}, dtype={gradient.dtype}"
                )
        for name, parameter in self._parameters.items():
            parameter.grad = _tensor(gradients[name]) if name in gradients else None
        self._optimizer.step()
        return {name: _array(parameter) for name, parameter in self._parameters.items()}


class TorchBackend:
    """PyTorch; see ``spec.contract.Backend``."""

    name = "torch"
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
    ) -> TorchLayer:
        """Build a layer with these parameters under this rule."""
        return TorchLayer(geometry, weight, bias, rule, scale, (seed, index))

    def initial_weight(
        self,
        geometry: Geometry,
        dtype: np.dtype[Any],
        *,
        scale: Scale = "paper",
        seed: int = 0,
        index: int = 0,
    ) -> Array:
        """Return the weights that ``initialize`` gives layer number ``index``."""
        lam = feedback_scale(geometry, scale)
        layer: Any = backprop_layer(geometry, _tensor(np.empty(0, dtype)).dtype, False)
        drawn = draw_like(layer, layer.weight, lam, seed=seed, index=index, purpose=Purpose.WEIGHT)
        return _array(to_canonical(layer, drawn))

    def diagnostics(self, weight: Array, feedback: Array) -> Diagnostics:
        """Return the diagnostics of a layer; they are the specification's own code."""
        return diagnose(weight, feedback)

    def sgd(
        self, config: SGDConfig, parameters: Mapping[str, Array], biases: Sequence[str]
    ) -> TorchOptimizer:
        """Return an optimizer over named parameters."""
        return TorchOptimizer(config, parameters, biases)

    def train(
        self,
        network: Network,
        batches: Sequence[tuple[Array, NDArray[np.int64]]],
        config: SGDConfig,
        *,
        seed: int = 0,
    ) -> Trajectory:
        """Initialise a network by the specification and train it, one update per batch."""
        if not batches:
            raise SpecError("Expected at least one batch. Received: batches=[]")
        model, weighted = self._network(network, batches[0][0].dtype, seed)
        weights = [layer.weight for layer in weighted]
        biases = [layer.bias for layer in weighted]
        optimizer = _sgd(config, weights, biases)
        losses = []
        for x, labels in batches:
            if x.dtype != batches[0][0].dtype:
                raise SpecError(f"Expected batches of one dtype. Received: dtype={x.dtype}")
            logits = model(_tensor(x))
            _require_labels(labels, logits)
            optimizer.zero_grad()
            loss = F.cross_entropy(logits, _tensor(labels))
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
            optimizer.step()
            losses.append(loss.item())
        return Trajectory(
            np.array(losses, np.float64),
            tuple(
                _array(to_canonical(layer, weight))
                for layer, weight in zip(weighted, weights, strict=True)
            ),
            tuple(_array(bias) for bias in biases),
        )

    def _network(
        self, network: Network, dtype: np.dtype[Any], seed: int
    ) -> tuple[nn.Sequential, list[Any]]:
        modules: list[nn.Module] = []
        weighted: list[Any] = []
        for layer in network.layers:
            if isinstance(layer, Weighted):
                geometry, place = layer.geometry, (seed, len(weighted))
                weight = self.initial_weight(
                    geometry, dtype, scale=layer.scale, seed=seed, index=len(weighted)
                )
                bias = np.zeros(geometry.n_out, dtype)
                built = TorchLayer(geometry, weight, bias, layer.rule, layer.scale, place)
                modules.append(built.module)
                weighted.append(built.module.layer)
            else:
                modules.append(nn.ReLU() if layer == "relu" else nn.Flatten())
        return nn.Sequential(*modules), weighted


backend = TorchBackend()
"""What the entry point ``antiparallel.backends`` names ``torch``."""


def _require_labels(labels: NDArray[np.int64], logits: Tensor) -> None:
    """Raise SpecError unless labels are classes of the logits, one per example (clause E11)."""
    fits = logits.dim() == 2 and len(logits) > 0 and labels.shape == logits.shape[:1]
    integers = np.issubdtype(labels.dtype, np.integer)
    if not (fits and integers and labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise SpecError(
            "Expected one integer label in [0, classes) for each row of logits (batch, classes), "
            f"batch >= 1. Received: logits.shape={tuple(logits.shape)}, labels={labels}"
        )


def _sgd(config: SGDConfig, weights: list[Tensor], biases: list[Tensor]) -> SGD:
    groups: list[dict[str, Any]] = [
        {"params": weights, "keep_signs": "all" if config.keep_signs else False},
        {"params": biases, "keep_signs": False},
    ]
    return SGD(
        [group for group in groups if group["params"]],
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        batch_manhattan=config.batch_manhattan,
    )


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, order="C"))


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().numpy().copy()
    return array
