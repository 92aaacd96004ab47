"""What is paid before the first step, on Keras."""

import keras

import antiparallel.keras as ap
from antiparallel.benchmarks.speed.keras3_networks import RESNET50
from antiparallel.keras.inventory import weight_layers
from antiparallel.keras.layout import kernels
from antiparallel.spec.draws import Purpose, draw

LIBRARY, LEAF = "keras", "antiparallel.keras"

_RESNET152 = RESNET50 | {"stackwise_num_blocks": [3, 8, 36, 3]}


def resnet152() -> keras.Model:
    """Build KerasHub's ResNet-152."""
    from keras_hub.models import ResNetBackbone, ResNetImageClassifier

    backbone = ResNetBackbone(image_shape=(224, 224, 3), **_RESNET152)
    model: keras.Model = ResNetImageClassifier(backbone=backbone, num_classes=1000)
    return model


def convert(model: keras.Model, rule: str, seed: int) -> None:
    """Give a network a rule."""
    ap.convert(model, rule, seed=seed)


def draw_all(model: keras.Model, seed: int) -> int:
    """Draw feedback for every weight layer, keep none of it, and return how many numbers it was."""
    return sum(
        draw(kernel.geometry, 1.0, seed=seed, index=found.index, purpose=Purpose.FEEDBACK).size
        for found in weight_layers(model)
        for kernel in kernels(found.module)
    )
