"""The benchmarks' networks in PyTorch."""

from collections import OrderedDict

from torch import nn

from antiparallel.benchmarks.models.convnet import ConvNet


def build(net: ConvNet) -> nn.Sequential:
    """Build a described network, for inputs ``(batch, channels, height, width)``."""
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
