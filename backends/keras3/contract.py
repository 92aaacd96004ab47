"""This backend as the conformance suite sees it: arrays in, arrays out (spec.contract.Backend)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from antiparallel.keras import layers as ap
from antiparallel.keras.engines import engine
from antiparallel.keras.layout import Kernel, draw_like, kernels
from antiparallel.keras.optimizers import SGD
from antiparallel.spec import (
    Conv,
    ConvTranspose,
    Dense,
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

_CONVOLUTIONS = {1: ap.Conv1D, 2: ap.Conv2D, 3: ap.Conv3D}
_TRANSPOSED = {1: ap.Conv1DTranspose, 2: ap.Conv2DTranspose, 3: ap.Conv3DTranspose}


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


class PaddedLayer(keras.layers.Layer):
    """A layer with the padding, strides and layout that its geometry asks for.

    Arrays are canonical, channels second. Keras's layers pad both ends alike, keep channels last
    and do not stride and dilate at once; so zeros are added before the layer, its output is cut
    or thinned out after it, as a user would do.
    """

    def __init__(self, geometry: Geometry, dtype: str, bias: bool = True) -> None:
        super().__init__(dtype=dtype)
        self.geometry = geometry
        self.layer = _backprop_layer(geometry, dtype, bias)

    def build(self, input_shape: Any) -> None:
        """Build the layer inside."""
        channels = self.geometry.n_in
        rank = 0 if isinstance(self.geometry, Dense) else self.geometry.rank
        self.layer.build((1, *[64] * rank, channels))

    def call(self, inputs: Any) -> Any:
        """Return the layer's output with its padding."""
        if isinstance(self.geometry, Dense):
            # Keras asks for a batch axis.
            return self.layer(inputs) if len(inputs.shape) > 1 else self.layer(inputs[None])[0]
        x = ops.moveaxis(inputs, 1, -1)
        if add := x.shape[0] == 0 and "empty batches" in engine.LACKS:
            x = ops.pad(x, [(0, 1), *[(0, 0)] * (len(x.shape) - 1)])
        y = self._convolution(x) if isinstance(self.geometry, Conv) else self._transposed(x)
        return ops.moveaxis(y[:0] if add else y, -1, 1)

    def _convolution(self, x: Any) -> Any:
        geometry = self.geometry
        assert isinstance(geometry, Conv)
        by_hand = _strided_and_dilated(geometry) or _in_phases(geometry, self.compute_dtype)
        if geometry.padding != "same" or by_hand:
            x = ops.pad(x, [(0, 0), *geometry.pads(tuple(x.shape[1:-1])), (0, 0)])
        y = self._dilated(x, -1)
        if _strided_and_dilated(geometry):
            for axis, stride in enumerate(geometry.strides, start=1):
                y = ops.take(y, np.arange(0, y.shape[axis], stride), axis=axis)
        return y

    def _transposed(self, x: Any) -> Any:
        geometry = self.geometry
        assert isinstance(geometry, ConvTranspose)
        sizes = tuple(x.shape[1:-1])
        if _strided_and_dilated(geometry):
            for axis, stride in enumerate(geometry.strides, start=1):
                x = _spread(x, axis, stride)
        y = self._dilated(x, 1)
        wanted = geometry.output_shape((1, geometry.n_in, *sizes))[2:]
        for axis, ((before, _), size) in enumerate(
            zip(geometry.pads(), wanted, strict=True), start=1
        ):
            missing = max(before + size - y.shape[axis], 0)
            if missing:
                # Places that no input reaches hold the bias.
                pads = [(0, 0)] * len(y.shape)
                pads[axis] = (0, missing)
                y = y - self._bias()
                y = ops.pad(y, pads) + self._bias()
            y = ops.take(y, np.arange(before, before + size), axis=axis)
        return y

    def _dilated(self, x: Any, growth: int) -> Any:
        """Return the layer's output; where it cannot dilate, run on every phase of the input.

        Args:
            x: The input.
            growth: 1 if the output is larger than the input by the kernel's reach, -1 if smaller.
        """
        geometry = self.geometry
        assert not isinstance(geometry, Dense)
        if not _in_phases(geometry, self.compute_dtype):
            return self.layer(x)
        reaches = [d * (k - 1) for d, k in zip(geometry.dilations, geometry.kernel, strict=True)]
        sizes = [n + growth * reach for n, reach in zip(x.shape[1:-1], reaches, strict=True)]
        for axis, dilation in enumerate(geometry.dilations, start=1):
            x = _apart(x, axis, dilation)
        y = self.layer(x)
        for axis, dilation in reversed(list(enumerate(geometry.dilations, start=1))):
            y = _together(y, axis, dilation)
        for axis, size in enumerate(sizes, start=1):
            y = ops.take(y, np.arange(size), axis=axis)
        return y

    def _bias(self) -> Any:
        return self.layer.bias if self.layer.use_bias else 0.0


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
        self._layer.attach(ap.attachment(self._layer, rule, scale, stream))

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


def _backprop_layer(geometry: Geometry, dtype: str, bias: bool) -> Any:
    options: dict[str, Any] = {"use_bias": bias, "dtype": dtype, "rule": "bp"}
    if isinstance(geometry, Dense):
        return ap.Dense(geometry.n_out, **options)
    options |= {
        "strides": (1,) * geometry.rank if _strided_and_dilated(geometry) else geometry.strides,
        "dilation_rate": 1 if _in_phases(geometry, dtype) else geometry.dilations,
        "data_format": "channels_last",
    }
    if isinstance(geometry, ConvTranspose):
        return _TRANSPOSED[geometry.rank](geometry.n_out, geometry.kernel, **options)
    by_hand = _strided_and_dilated(geometry) or _in_phases(geometry, dtype)
    same = geometry.padding == "same" and not by_hand
    options |= {"groups": geometry.groups, "padding": "same" if same else "valid"}
    return _CONVOLUTIONS[geometry.rank](geometry.n_out, geometry.kernel, **options)


def _strided_and_dilated(geometry: Conv | ConvTranspose) -> bool:
    """Return whether a geometry has both, which Keras's layers refuse."""
    return max(geometry.strides) > 1 and max(geometry.dilations) > 1


def _in_phases(geometry: Conv | ConvTranspose, dtype: str) -> bool:
    """Return whether dilation is done by hand, for the engine cannot."""
    lacking = dtype == "float64" and "dilation in float64" in engine.LACKS
    return lacking and max(geometry.dilations) > 1


def _apart(x: Any, axis: int, dilation: int) -> Any:
    """Return every ``dilation``-th element along an axis, phase by phase along the batch."""
    missing = -x.shape[axis] % dilation
    pads = [(0, 0)] * len(x.shape)
    pads[axis] = (0, missing)
    x = ops.pad(x, pads)
    shape = list(x.shape)
    split = [*shape[:axis], shape[axis] // dilation, dilation, *shape[axis + 1 :]]
    x = ops.moveaxis(ops.reshape(x, split), axis + 1, 0)
    shape[0], shape[axis] = shape[0] * dilation, shape[axis] // dilation
    return ops.reshape(x, shape)


def _together(y: Any, axis: int, dilation: int) -> Any:
    """Weave the phases into one axis again."""
    shape = list(y.shape)
    shape[0], shape[axis] = shape[0] // dilation, shape[axis] * dilation
    y = ops.reshape(y, [dilation, shape[0], *y.shape[1:]])
    return ops.reshape(ops.moveaxis(y, 0, axis + 1), shape)


def _spread(x: Any, axis: int, stride: int) -> Any:
    """Return x with ``stride - 1`` zeros between its elements along an axis."""
    if stride == 1:
        return x
    size = x.shape[axis]
    x = ops.expand_dims(x, axis + 1)
    pads = [(0, 0)] * len(x.shape)
    pads[axis + 1] = (0, stride - 1)
    x = ops.pad(x, pads)
    shape = [*x.shape[:axis], size * stride, *x.shape[axis + 2 :]]
    return ops.take(ops.reshape(x, shape), np.arange((size - 1) * stride + 1), axis=axis)


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
