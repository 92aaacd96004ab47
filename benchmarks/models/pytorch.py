"""The benchmarks' networks in PyTorch, for inputs ``(batch, channels, height, width)``."""

from collections import OrderedDict

from torch import nn

import antiparallel.torch as ap
from antiparallel.benchmarks.models.backbone import backbone_weights
from antiparallel.benchmarks.models.networks import AlexNet, ConvNet
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.spec import Scale, feedback_scale
from antiparallel.spec.draws import Purpose
from antiparallel.torch.attachment import attachment
from antiparallel.torch.layers import FeedbackLayer
from antiparallel.torch.layout import WeightLayer, draw_like, geometry


def draw_anew(layer: WeightLayer, scale: Scale, identity: tuple[int, int]) -> None:
    """Draw a layer's weights and feedback as if it had another number or another lambda.

    Args:
        layer: The layer, converted or not.
        scale: What lambda is.
        identity: The seed and the number.
    """
    seed, index = identity
    lam = feedback_scale(geometry(layer), scale)
    weight = layer.weight.detach()
    weight.copy_(draw_like(layer, weight, lam, seed=seed, index=index, purpose=Purpose.WEIGHT))
    if isinstance(layer, FeedbackLayer):
        drawn = attachment(
            layer, layer.rule, scale, identity, layer.keep_feedback
        )  # after the weights: it may be theirs
        layer.detach_rule()
        layer.attach(drawn)


def build(recipe: Recipe, channels: int, classes: int) -> nn.Module:
    """Build a recipe's network."""
    if recipe.model == "retinanet":
        from antiparallel.benchmarks.models.pytorch_retinanet import build_retinanet

        assert recipe.anchor_size is not None
        return build_retinanet(classes, recipe.anchor_size, frozen=recipe.backbone != "none")
    if recipe.model == "resnet18":
        from torchvision.models import resnet18

        model: nn.Module = resnet18(num_classes=classes)
        return model
    if recipe.model == "alexnet":
        return alexnet(AlexNet(channels, classes))
    assert recipe.depth is not None
    assert recipe.width is not None
    return convnet(ConvNet(channels, classes, recipe.depth, recipe.width))


def start(model: nn.Module, recipe: Recipe, seed: int) -> None:
    """Give a converted network the weights and feedback that its training begins with.

    Raises:
        SpecError: There are no such weights as the recipe wants for a backbone.
    """
    ap.initialize(model, scale=recipe.scale, seed=seed)
    if recipe.model == "retinanet":
        from antiparallel.benchmarks.models import pytorch_retinanet

        assert isinstance(model, pytorch_retinanet.RetinaNet)
        assert recipe.subnet_scale is not None
        pytorch_retinanet.start_subnets(model, recipe.subnet_scale, seed)
        if recipe.backbone != "none":
            pytorch_retinanet.write_backbone(model, backbone_weights(recipe.backbone)[0])


def convnet(net: ConvNet) -> nn.Sequential:
    """Build the digits' network."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = net.channels
    for number in range(1, net.depth + 1):
        layers[f"conv{number}"] = nn.Conv2d(channels, net.width, 3, padding=1, bias=False)
        layers[f"norm{number}"] = nn.BatchNorm2d(net.width, eps=1e-5, momentum=0.1)
        layers[f"relu{number}"] = nn.ReLU()
        if number in net.pool_after:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        channels = net.width
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, net.classes)
    return nn.Sequential(layers)


def alexnet(net: AlexNet) -> nn.Sequential:
    """Build the paper's AlexNet."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = net.channels
    shapes = zip(net.widths, net.kernels, net.strides, net.pads, strict=True)
    for number, (width, kernel, stride, pad) in enumerate(shapes, start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, width, kernel, stride, pad, bias=False)
        layers[f"norm{number}"] = nn.BatchNorm2d(width, eps=1e-5, momentum=0.1)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        if number in net.pool_after:
            layers[f"pool{number}"] = nn.MaxPool2d(3, 2)
        channels = width
    layers["mean"] = nn.AdaptiveAvgPool2d(net.fields)
    layers["flatten"] = nn.Flatten()
    features = channels * net.fields**2
    for index, width in enumerate(net.dense, start=1):
        number = len(net.widths) + index
        layers[f"fc{index}"] = nn.Linear(features, width, bias=False)
        layers[f"norm{number}"] = nn.BatchNorm1d(width, eps=1e-5, momentum=0.1)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        features = width
    layers["fc"] = nn.Linear(features, net.classes)
    return nn.Sequential(layers)
