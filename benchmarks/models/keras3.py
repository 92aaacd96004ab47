"""The benchmarks' networks in Keras, for inputs ``(batch, height, width, channels)``."""

from math import prod
from typing import Any

import keras
from keras import layers, ops

import antiparallel.keras as ap
from antiparallel.benchmarks.models.backbone import backbone_weights
from antiparallel.benchmarks.models.networks import AlexNet, ConvNet
from antiparallel.benchmarks.models.resnet18 import KERAS_HUB_RESNET18
from antiparallel.benchmarks.models.retinanet import correspondence_of
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.keras.attachment import attachment
from antiparallel.keras.layers import FeedbackLayer
from antiparallel.keras.layout import WeightLayer, draw_like, kernels
from antiparallel.spec import Scale, feedback_scale
from antiparallel.spec.draws import Purpose


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


@keras.saving.register_keras_serializable(package="antiparallel")
class FieldMeans(layers.Layer):
    """The means in ``fields x fields`` fields of a map, as PyTorch's adaptive average pooling.

    Field i of n covers the rows from ``floor(i h / n)`` to ``ceil((i + 1) h / n)``, of h.

    Args:
        fields: Fields in each direction.
    """

    def __init__(self, fields: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fields = fields

    def call(self, inputs: Any) -> Any:
        """Return the means, ``(batch, fields, fields, channels)``."""
        height, width = inputs.shape[1:3]
        rows = [ops.mean(inputs[:, a:b], axis=1) for a, b in self._bounds(height)]
        means = ops.stack(rows, axis=1)
        columns = [ops.mean(means[:, :, a:b], axis=2) for a, b in self._bounds(width)]
        return ops.stack(columns, axis=2)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Return the shape of the means."""
        return (input_shape[0], self.fields, self.fields, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return what makes the layer anew."""
        return super().get_config() | {"fields": self.fields}

    def _bounds(self, size: int) -> list[tuple[int, int]]:
        n = self.fields
        return [(i * size // n, -(-(i + 1) * size // n)) for i in range(n)]


def draw_anew(layer: WeightLayer, scale: Scale, identity: tuple[int, int]) -> None:
    """Draw a layer's weights and feedback as if it had another number or another lambda.

    Args:
        layer: The layer, converted or not.
        scale: What lambda is.
        identity: The seed and the number.
    """
    seed, index = identity
    (kernel,) = kernels(layer)
    lam = feedback_scale(kernel.geometry, scale)
    dtype = layer.kernel.dtype
    layer.kernel.assign(
        draw_like(kernel, dtype, lam, seed=seed, index=index, purpose=Purpose.WEIGHT)
    )
    if isinstance(layer, FeedbackLayer):
        drawn = attachment(
            layer, layer.rule, scale, identity, layer.keep_feedback
        )  # after the weights: it may be theirs
        layer.detach_rule()
        layer.attach(drawn)


def build(recipe: Recipe, channels: int, classes: int) -> keras.Model:
    """Build a recipe's network, for inputs ``(batch, height, width, channels)``."""
    if recipe.model == "retinanet":
        from antiparallel.benchmarks.models.keras3_retinanet import build_retinanet

        assert recipe.size is not None
        assert recipe.anchor_size is not None
        frozen = recipe.backbone != "none"
        return build_retinanet(recipe.size, classes, recipe.anchor_size, frozen)
    if recipe.model == "resnet18":
        return resnet18(recipe.size, classes)
    if recipe.model == "alexnet":
        return alexnet(AlexNet(channels, classes), recipe.size)
    assert recipe.depth is not None
    assert recipe.width is not None
    return convnet(ConvNet(channels, classes, recipe.depth, recipe.width))


def start(model: keras.Model, recipe: Recipe, seed: int) -> None:
    """Give a converted network the weights and feedback that its training begins with.

    Raises:
        SpecError: There are no such weights as the recipe wants for a backbone.
    """
    ap.initialize(model, scale=recipe.scale, seed=seed)
    if (correspondence := correspondence_of(recipe.model)) is not None:
        correspondence.number_as_torchvision(model, recipe.scale, seed)
    if recipe.model == "retinanet":
        from antiparallel.benchmarks.models import keras3_retinanet

        assert isinstance(model, keras3_retinanet.RetinaNet)
        assert recipe.subnet_scale is not None
        keras3_retinanet.start_subnets(model, recipe.subnet_scale, seed)
        if recipe.backbone != "none":
            keras3_retinanet.write_backbone(model, backbone_weights(recipe.backbone)[0])


def resnet18(size: int | None, classes: int) -> keras.Model:
    """Build KerasHub's ResNet-18, with the running variance that PyTorch keeps."""
    from keras_hub.models import ResNetImageClassifier

    backbone = resnet18_backbone(size)
    model: keras.Model = ResNetImageClassifier(backbone=backbone, num_classes=classes)
    return model


def resnet18_backbone(size: int | None) -> keras.Model:
    """Build KerasHub's ResNet-18 without its last layer."""
    from keras_hub.models import ResNetBackbone

    # A name of its own: Keras numbers others by what the process made before.
    backbone = ResNetBackbone(name="backbone", image_shape=(size, size, 3), **KERAS_HUB_RESNET18)
    for layer in backbone.layers:
        if type(layer) is layers.BatchNormalization:
            layer.__class__ = UnbiasedBatchNormalization
    return backbone


def convnet(net: ConvNet) -> keras.Sequential:
    """Build the digits' network."""
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


def alexnet(net: AlexNet, size: int | None) -> keras.Sequential:
    """Build the paper's AlexNet."""
    stack: list[layers.Layer] = [layers.Input((size, size, net.channels))]
    shapes = zip(net.widths, net.kernels, net.strides, net.pads, strict=True)
    for number, (width, kernel, stride, pad) in enumerate(shapes, start=1):
        stack += [
            layers.ZeroPadding2D(pad, name=f"pad{number}"),
            layers.Conv2D(width, kernel, strides=stride, use_bias=False, name=f"conv{number}"),
            UnbiasedBatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{number}"),
            layers.ReLU(name=f"relu{number}"),
        ]
        if number in net.pool_after:
            stack.append(layers.MaxPooling2D(3, 2, name=f"pool{number}"))
    # In PyTorch's order, so that the weights that follow are the same in both
    stack += [
        FieldMeans(net.fields, name="mean"),
        layers.Permute((3, 1, 2), name="channels_first"),
        layers.Flatten(name="flatten"),
    ]
    for index, width in enumerate(net.dense, start=1):
        number = len(net.widths) + index
        stack += [
            layers.Dense(width, use_bias=False, name=f"fc{index}"),
            UnbiasedBatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{number}"),
            layers.ReLU(name=f"relu{number}"),
        ]
    stack.append(layers.Dense(net.classes, name="fc"))
    return keras.Sequential(stack)
