"""Sins against chapter N: shapes, dtypes, memory, the forward pass."""

from dataclasses import replace

import numpy as np

from antiparallel.spec import Conv, ConvTranspose, Dense, layers
from mutants import caught_by
from mutants.sinful import SinfulBackend, SinfulLayer


def flipped(weight):
    return np.flip(weight, axis=tuple(range(2, weight.ndim)))


@caught_by("check_forward_of_dense_layers", "W x + b")
class ForgetsTheBias(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            return layers.forward(self.geometry, x, self.weight)


@caught_by("check_forward_of_dense_layers", "W x + b")
class ReadsMemoryInOrder(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            return self.inner.forward(x.ravel(order="K").reshape(x.shape))


@caught_by("check_forward_of_dense_layers", "W x + b")
class ComputesInFloat32(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            bias = None if self.bias is None else self.bias.astype(np.float32)
            y = layers.forward(
                self.geometry, x.astype(np.float32), self.weight.astype(np.float32), bias
            )
            return y.astype(x.dtype)


@caught_by("check_dtype_is_kept", "in float32, but should be in float64")
class AnswersInFloat32(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            return super().forward(x).astype(np.float32)


@caught_by("check_forward_of_convolutions", "W x + b")
class FlipsTheKernel(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            return layers.forward(self.geometry, x, flipped(self.weight), self.bias)


@caught_by("check_forward_of_transposed_convolutions", "W x + b")
class FlipsTheTransposedKernel(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            transposed = isinstance(self.geometry, ConvTranspose)
            weight = flipped(self.weight) if transposed else self.weight
            return layers.forward(self.geometry, x, weight, self.bias)


@caught_by("check_same_padding", "W x + b")
class PadsOnTheWrongSide(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            geometry = self.geometry
            if isinstance(geometry, Conv) and geometry.padding == "same":
                pads = geometry.pads(x.shape[2:])
                geometry = replace(geometry, padding=tuple(pad[::-1] for pad in pads))
            return layers.forward(geometry, x, self.weight, self.bias)


@caught_by("check_arguments_are_not_modified", "that x was changed")
class WritesIntoItsInput(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            y = super().forward(x)
            if x.flags.writeable:
                np.maximum(x, 0, out=x)
            return y


@caught_by("check_repeated_calls_agree", "the same in call 1")
class WearsOut(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            return super().forward(x) * x.dtype.type(1 - self.count / 8)


@caught_by("check_empty_batch", "zero: there is no error")
class DividesByAnEmptyBatch(SinfulBackend):
    class Layer(SinfulLayer):
        def backward(self, x, error):
            found = super().backward(x, error)
            with np.errstate(invalid="ignore"):
                mean = found.weight / found.weight.dtype.type(x.size) * x.size
            return found._replace(weight=mean)


@caught_by("check_empty_batch", "output of shape")
class DropsAnEmptyBatch(SinfulBackend):
    class Layer(SinfulLayer):
        def forward(self, x):
            y = super().forward(x)
            return y if y.size else y.reshape(0)


@caught_by("check_bias_gradient_is_ordinary", "None for a layer without bias")
class InventsABiasGradient(SinfulBackend):
    class Layer(SinfulLayer):
        def backward(self, x, error):
            found = super().backward(x, error)
            zeros = np.zeros(self.geometry.n_out, x.dtype)
            return found if found.bias is not None else found._replace(bias=zeros)


@caught_by("check_dtype_is_kept", "of shape")
class SumsOverLeadingDimensions(SinfulBackend):
    class Layer(SinfulLayer):
        def backward(self, x, error):
            found = super().backward(x, error)
            if isinstance(self.geometry, Dense) and x.ndim > 2:
                return found._replace(input=found.input.sum(axis=0))
            return found
