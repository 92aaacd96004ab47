"""Geometries of the specification that Keras's layers do not have, made of those they have."""

from typing import Any

import keras
import numpy as np
from keras import ops

from antiparallel.keras import layers as ap
from antiparallel.keras.engines import engine
from antiparallel.spec import Conv, ConvTranspose, Dense, Geometry

_CONVOLUTIONS = {1: ap.Conv1D, 2: ap.Conv2D, 3: ap.Conv3D}
_TRANSPOSED = {1: ap.Conv1DTranspose, 2: ap.Conv2DTranspose, 3: ap.Conv3DTranspose}


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
