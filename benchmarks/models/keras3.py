"""The benchmarks' networks in Keras."""

from math import prod
from typing import Any

import keras
from keras import layers, ops

from antiparallel.benchmarks.models.convnet import ConvNet


@keras.saving.register_keras_serializable(package="antiparallel")
class UnbiasedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation that keeps the unbiased variance, as PyTorch's does.

    ``running = momentum * running + (1 - momentum) * batch * n / (n - 1)``, n the numbers of a
    channel. Keras's own keeps the biased one; what a batch is normalised by is the same in both.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise; in training, keep the mean and the unbiased variance."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        kept = self.momentum * self.moving_variance
        outputs = super().call(inputs, training=True, mask=mask)
        channel = range(len(inputs.shape))[self.axis]
        sizes = [size for axis, size in enumerate(ops.shape(inputs)) if axis != channel]
        n = ops.cast(prod(sizes), kept.dtype)
        self.moving_variance.assign(kept + (self.moving_variance - kept) * (n / (n - 1)))
        return outputs


def build(net: ConvNet) -> keras.Sequential:
    """Build a described network, for inputs ``(batch, height, width, channels)``."""
    stack: list[layers.Layer] = [layers.Input((None, None, net.channels))]
    for number in range(1, net.depth + 1):
        stack += [
            layers.Conv2D(net.width, 3, padding="same", use_bias=False, name=f"conv{number}"),
            UnbiasedBatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{number}"),
            layers.ReLU(name=f"relu{number}"),
        ]
        if number in net.pool_after:
            stack.append(layers.MaxPooling2D(2, name=f"pool{number}"))
    stack += [layers.GlobalAveragePooling2D(name="mean"), layers.Dense(net.classes, name="fc")]
    return keras.Sequential(stack)
