"""The same ResNet-18 in torchvision and in KerasHub: weights and feedback, mapped both ways.

In a block that halves the picture torchvision lists the shortcut after both other convolutions,
KerasHub between them.

KerasHub's own model keeps the biased running variance, torch's the unbiased one, which evaluation
uses; ``models.keras3.resnet18`` keeps the unbiased one too.
"""

from collections.abc import Iterator
from typing import Any

from antiparallel.benchmarks.models.correspondence import Correspondence

KERAS_HUB_RESNET18: dict[str, Any] = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128, 256, 512],
    "stackwise_num_blocks": [2, 2, 2, 2],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
    "use_pre_activation": False,
}
"""The arguments with which ``keras_hub.models.ResNetBackbone`` is ``resnet_18_imagenet``."""


def _blocks() -> Iterator[tuple[str, str]]:
    """Yield torchvision's names of the convolutions with KerasHub's beginnings of names."""
    yield "conv1", "conv1"
    for stack in range(4):
        for block in range(2):
            theirs, ours = f"layer{stack + 1}.{block}", f"stack{stack}_block{block}"
            yield f"{theirs}.conv1", f"{ours}_1"
            yield f"{theirs}.conv2", f"{ours}_2"
            if stack and not block:
                yield f"{theirs}.downsample.0", f"{ours}_0"


def _normalization(convolution: str) -> str:
    return convolution.replace("conv", "bn").replace("downsample.0", "downsample.1")


CONVOLUTIONS = {theirs: f"{ours}_conv" for theirs, ours in _blocks()}
NORMALIZATIONS = {_normalization(theirs): f"{ours}_bn" for theirs, ours in _blocks()}

RESNET18 = Correspondence("ResNet-18", CONVOLUTIONS | {"fc": "predictions"}, NORMALIZATIONS)

torch_to_keras = RESNET18.torch_to_keras
keras_to_torch = RESNET18.keras_to_torch
read_keras = RESNET18.read_keras
write_keras = RESNET18.write_keras
keras_variables = RESNET18.keras_variables
layer_names = RESNET18.layer_names
number_as_torchvision = RESNET18.number_as_torchvision
