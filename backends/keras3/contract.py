"""This backend as the conformance suite sees it: arrays in, arrays out (spec.contract.Backend)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from antiparallel.keras.attachment import attachment
from antiparallel.keras.engines import engine
from antiparallel.keras.layout import Kernel, draw_like, kernels
from antiparallel.keras.optimizers import SGD
from antiparallel.keras.padded_layer import PaddedLayer
from antiparallel.spec import (
    ConvTranspose,
    Geometry,
    Rule,
    Scale,
    SpecError,
    UnsupportedError,
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


def _unsupported() -> dict[Capability, str]:
    reasons: dict[Capability, str] = {
        "groups-transposed": "Keras's transposed convolutions have no groups",
    }
    probe = ops.zeros((1, 1), dtype="float64")
    if keras.backend.standardize_dtype(ops.matmul(probe, probe).dtype) != "float64":
        reasons["float64"] = (
            "Keras multiplies float64 matrices in float32 on torch, and on JAX where "
            "JAX_ENABLE_X64 is not set"
        )
    return reasons


class KerasLayer:
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
        _require_supported(geometry, getattr(weight, "dtype", None))
        require_parameters(geometry, weight, bias)
        self._geometry = geometry
        self.module = PaddedLayer(geometry, str(weight.dtype), bias is not None)
        self.module.build(None)
        self._layer: Any = self.module.layer
        self._layer.kernel.assign(self._kernel.from_canonical(weight))
        if bias is not None:
            self._layer.bias.assign(np.array(bias))
        self._layer.attach(attachment(self._layer, rule, scale, stream))

    def forward(self, x: Array) -> Array:
        """Return the layer's output for an input."""
        self._require_input(x)
        return _array(self.module.call(_tensor(x)))

    def backward(self, x: Array, error: Array) -> Gradients:
        """Run forward on x, send the error back, return the gradients."""
        self._require_input(x)
        shape = self._geometry.output_shape(x.shape)
        if error.shape != shape or error.dtype != x.dtype:
            raise SpecError(
                f"Expected an error of shape {shape} and dtype {x.dtype}. "
                f"Received: shape={error.shape}, dtype={error.dtype}"
            )
        fixed = [variable.value for variable in self.module.non_trainable_variables]

        def function(x: Any, *parameters: Any) -> Any:
            return self.module.stateless_call(list(parameters), fixed, x)[0]

        parameters = [variable.value for variable in self.module.trainable_variables]
        arriving = _tensor(error)
        _, gradients = engine.pullback(function, [_tensor(x), *parameters], lambda y: arriving)
        sent, weight, *bias = gradients
        return Gradients(
            _array(sent),
            self._kernel.to_canonical(_array(weight)),
            _array(bias[0]) if bias else None,
        )

    def feedback(self) -> Array:
        """Return B as the next backward pass will use it."""
        return self._kernel.to_canonical(_array(self._layer.feedback_matrix()))

    def set_weight(self, weight: Array) -> None:
        """Replace the weights' values; fixed feedback stays."""
        require_parameters(self._geometry, weight, None)
        if str(weight.dtype) != self._layer.kernel.dtype:
            raise SpecError(
                f"Expected weights of dtype {self._layer.kernel.dtype}. "
                f"Received: dtype={weight.dtype}"
            )
        self._layer.kernel.assign(self._kernel.from_canonical(weight))

    def state(self) -> dict[str, Any]:
        """Return what Keras saves of the layer, as arrays."""
        own: dict[str, Any] = {}
        self._layer.save_own_variables(own)
        kept: dict[str, Any] = {}
        if self._layer.feedback_state is not None:
            self._layer.feedback_state.save_own_variables(kept)
        saved = own | {f"feedback_state/{name}": value for name, value in kept.items()}
        return {name: _array(value) for name, value in saved.items()}

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
        kept = {
            name.removeprefix("feedback_state/"): value
            for name, value in state.items()
            if name.startswith("feedback_state/")
        }
        plain = {name: value for name, value in state.items() if "/" not in name}
        self._layer.load_own_variables(plain)
        if self._layer.feedback_state is not None:
            self._layer.feedback_state.load_own_variables(kept)

    @property
    def _kernel(self) -> Kernel:
        (kernel,) = kernels(self._layer)
        return kernel

    def _require_input(self, x: Array) -> None:
        require_input(self._geometry, x, np.dtype(self._layer.kernel.dtype))


class KerasOptimizer:
    """The backend's SGD on named arrays; see ``spec.contract.Optimizer``."""

    def __init__(
        self, config: SGDConfig, parameters: Mapping[str, Array], biases: Sequence[str]
    ) -> None:
        dtypes = {str(array.dtype) for array in parameters.values()}
        for dtype in dtypes:
            _require_supported(None, np.dtype(dtype))
        if unknown := set(biases) - set(parameters):
            raise SpecError(
                f"Expected biases among {sorted(parameters)}. Received: {sorted(unknown)}"
            )
        with _floatx(*dtypes):
            self._parameters = {
                name: keras.Variable(np.array(array), dtype=str(array.dtype), name=name)
                for name, array in parameters.items()
            }
            self._optimizers = {
                name: _sgd(config, "all" if config.keep_signs and name not in biases else False)
                for name in parameters
            }
            for name, variable in self._parameters.items():
                self._optimizers[name].build([variable])

    def step(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        """Apply one update and return all parameters."""
        for name, gradient in gradients.items():
            if name not in self._parameters:
                raise SpecError(
                    f"Expected gradients of {sorted(self._parameters)}. Received: {name!r}"
                )
            like = self._parameters[name]
            if gradient.shape != tuple(like.shape) or str(gradient.dtype) != like.dtype:
                raise SpecError(
                    f"Expected the gradient of {name!r} of shape {tuple(like.shape)} and dtype "
                    f"{like.dtype}. Received: shape={gradient.shape}, dtype={gradient.dtype}"
                )
        for name, gradient in gradients.items():
            self._optimizers[name].apply([_tensor(gradient)])
        return {name: _array(variable) for name, variable in self._parameters.items()}


class KerasBackend:
    """Keras 3 on one of its engines; see ``spec.contract.Backend``."""

    name = "keras"
    unsupported: Mapping[Capability, str] = _unsupported()
    versions: Mapping[str, str] = {"keras": keras.__version__, **engine.versions()}

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
    ) -> KerasLayer:
        """Build a layer with these parameters under this rule."""
        return KerasLayer(geometry, weight, bias, rule, scale, (seed, index))

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
        _require_supported(geometry, np.dtype(dtype))
        lam = feedback_scale(geometry, scale)
        module = PaddedLayer(geometry, str(np.dtype(dtype)), bias=False)
        module.build(None)
        (kernel,) = kernels(module.layer)
        drawn = draw_like(
            kernel, module.layer.kernel.dtype, lam, seed=seed, index=index, purpose=Purpose.WEIGHT
        )
        module.layer.kernel.assign(drawn)
        return kernel.to_canonical(_array(module.layer.kernel))

    def diagnostics(self, weight: Array, feedback: Array) -> Diagnostics:
        """Return the diagnostics of a layer; they are the specification's own code."""
        return diagnose(weight, feedback)

    def sgd(
        self, config: SGDConfig, parameters: Mapping[str, Array], biases: Sequence[str]
    ) -> KerasOptimizer:
        """Return an optimizer over named parameters."""
        return KerasOptimizer(config, parameters, biases)

    def train(
        self,
        network: Network,
        batches: Sequence[tuple[Array, NDArray[np.int64]]],
        config: SGDConfig,
        *,
        seed: int = 0,
    ) -> Trajectory:
        """Initialise a network by the specification and train it with ``train_on_batch``."""
        if not batches:
            raise SpecError("Expected at least one batch. Received: batches=[]")
        dtype = batches[0][0].dtype
        with _floatx(str(dtype)):
            model, weighted = self._network(network, batches[0][0].shape, dtype, seed)
            for x, labels in batches:
                _require_labels(x, labels, model.output_shape[-1])
            model.compile(
                optimizer=_sgd(config, config.keep_signs),
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            )
            losses = []
            for x, labels in batches:
                model.reset_metrics()  # or the loss would be a mean over steps
                losses.append(float(model.train_on_batch(np.array(x), np.array(labels))))
        return Trajectory(
            np.array(losses, np.float64),
            tuple(kernels(layer)[0].to_canonical(_array(layer.kernel)) for layer in weighted),
            tuple(_array(layer.bias) for layer in weighted),
        )

    def _network(
        self, network: Network, shape: tuple[int, ...], dtype: np.dtype[Any], seed: int
    ) -> tuple[keras.Sequential, list[Any]]:
        modules: list[keras.layers.Layer] = [keras.Input(shape[1:], dtype=str(dtype))]
        weighted: list[Any] = []
        for layer in network.layers:
            if isinstance(layer, Weighted):
                geometry, place = layer.geometry, (seed, len(weighted))
                weight = self.initial_weight(
                    geometry, dtype, scale=layer.scale, seed=seed, index=len(weighted)
                )
                bias = np.zeros(geometry.n_out, dtype)
                built = KerasLayer(geometry, weight, bias, layer.rule, layer.scale, place)
                modules.append(built.module)
                weighted.append(built.module.layer)
            else:
                modules.append(
                    keras.layers.ReLU()
                    if layer == "relu"
                    else keras.layers.Flatten("channels_last")
                )
        return keras.Sequential(modules), weighted


backend = KerasBackend()
"""What the entry point ``antiparallel.backends`` names ``keras``."""


def _require_supported(geometry: Geometry | None, dtype: np.dtype[Any] | None) -> None:
    unsupported = KerasBackend.unsupported
    if isinstance(geometry, ConvTranspose) and geometry.groups > 1:
        raise UnsupportedError(
            f"{unsupported['groups-transposed']}. Received: groups={geometry.groups}"
        )
    if dtype == np.float64 and "float64" in unsupported:
        raise UnsupportedError(f"{unsupported['float64']}. Received: dtype={dtype}")


def _require_labels(x: Array, labels: NDArray[Any], classes: int) -> None:
    whole = np.issubdtype(np.asarray(labels).dtype, np.integer)
    fits = whole and len(labels) == len(x) > 0 and 0 <= labels.min() <= labels.max() < classes
    if not fits:
        raise SpecError(
            f"Expected as many labels as inputs, integers in [0, {classes}). "
            f"Received: {len(x)} inputs, labels={labels!r}"
        )


def _sgd(config: SGDConfig, keep_signs: Any) -> SGD:
    return SGD(
        learning_rate=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        batch_manhattan=config.batch_manhattan,
        keep_signs=keep_signs,
    )


@contextmanager
def _floatx(*dtypes: str) -> Iterator[None]:
    """Let Keras keep learning rate, loss and metrics in float64, where parameters are."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64" if "float64" in dtypes else "float32")
    try:
        yield
    finally:
        keras.config.set_floatx(before)


def _array(value: Any) -> NDArray[Any]:
    return np.array(ops.convert_to_numpy(value)) if not isinstance(value, np.ndarray) else value


def _tensor(array: NDArray[Any]) -> Any:
    return ops.convert_to_tensor(np.array(array, order="C"), dtype=str(array.dtype))
