"""The networks and batches whose steps are timed, on Keras."""

import random
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

import antiparallel.keras as ap
from antiparallel.benchmarks.models.keras3 import alexnet, convnet, resnet18
from antiparallel.benchmarks.models.networks import AlexNet, ConvNet
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.contender import PLAIN
from antiparallel.benchmarks.speed.pictures import classes_of

# Of the COCO recipes; by the paper's lambda, a detector's logits begin at tens of nats.
_ANCHOR_SIZE, _SUBNET_SCALE = 4.0, 0.01

LAST_LAYERS = "*_head/logits_layer"
"""Those of a detector's subnets, which learn by backprop as in the COCO recipes."""

RESNET50: dict[str, Any] = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128, 256, 512],
    "stackwise_num_blocks": [3, 4, 6, 3],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "bottleneck_block",
    "use_pre_activation": False,
}
"""The arguments with which ``keras_hub.models.ResNetBackbone`` is ``resnet_50_imagenet``."""

VIT_B16: dict[str, Any] = {
    "patch_size": 16,
    "num_layers": 12,
    "num_heads": 12,
    "hidden_dim": 768,
    "mlp_dim": 3072,
}
"""The arguments with which ``keras_hub.models.ViTBackbone`` is ``vit_base_patch16_224``."""


def network(case: Case, rule: str) -> keras.Model:
    """Build a case's network with the weights of its seed, which are the same under every rule.

    Args:
        case: What it is.
        rule: ``"plain"`` for the library's own layers, or a rule's name.

    Raises:
        SpecError: There is no such rule.
    """
    random.seed(case.seed)  # by which Keras draws what the specification does not
    with _recomputing(case):
        model = _build(case)
    if rule != PLAIN:
        last = {LAST_LAYERS: "bp"} if case.model == "retinanet" else {}
        ap.convert(model, rule, overrides=last, seed=case.seed, error_dtype=case.error_dtype)
    ap.initialize(model, seed=case.seed)
    if case.model == "retinanet":
        from antiparallel.benchmarks.models.keras3_retinanet import start_subnets

        start_subnets(model, _SUBNET_SCALE, case.seed)
    return model


def _recomputing(case: Case) -> AbstractContextManager[Any]:
    """Return the context in which layers are made whose activations are computed again."""
    if case.way != "checkpointed":
        return nullcontext()
    blocks = [f"transformer_block_{number + 1}" for number in range(VIT_B16["num_layers"])]
    scope: AbstractContextManager[Any] = keras.RematScope("list_of_layers", layer_names=blocks)
    return scope


def _build(case: Case) -> keras.Model:
    classes = classes_of(case)
    if case.model == "convnet":
        return convnet(ConvNet(3, classes, case.depth, case.width))
    if case.model == "alexnet":
        return alexnet(AlexNet(3, classes), case.pixels)
    if case.model == "retinanet":
        from antiparallel.benchmarks.models.keras3_retinanet import build_retinanet

        return build_retinanet(case.pixels, classes, _ANCHOR_SIZE, frozen=False)
    if case.model == "resnet18":
        return resnet18(case.pixels, classes)
    return _resnet50(case, classes) if case.model == "resnet50" else _vit(case, classes)


def _resnet50(case: Case, classes: int) -> keras.Model:
    from keras_hub.models import ResNetBackbone, ResNetImageClassifier

    backbone = ResNetBackbone(image_shape=(case.pixels, case.pixels, 3), **RESNET50)
    model: keras.Model = ResNetImageClassifier(backbone=backbone, num_classes=classes)
    return model


def _vit(case: Case, classes: int) -> keras.Model:
    from keras_hub.models import ViTBackbone, ViTImageClassifier

    backbone = ViTBackbone(image_shape=(case.pixels, case.pixels, 3), **VIT_B16)
    model: keras.Model = ViTImageClassifier(backbone=backbone, num_classes=classes)
    return model
