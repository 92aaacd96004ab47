"""What is paid before the first step, on PyTorch."""

from torch import nn

import antiparallel.torch as ap
from antiparallel.spec.draws import Purpose, draw
from antiparallel.torch.inventory import weight_layers
from antiparallel.torch.layout import geometry

LIBRARY, LEAF = "torch", "antiparallel.torch"


def resnet152() -> nn.Module:
    """Build torchvision's ResNet-152."""
    from torchvision import models

    model: nn.Module = models.resnet152()
    return model


def convert(model: nn.Module, rule: str, seed: int) -> None:
    """Give a network a rule."""
    ap.convert(model, rule, seed=seed)


def draw_all(model: nn.Module, seed: int) -> int:
    """Draw feedback for every weight layer, keep none of it, and return how many numbers it was."""
    return sum(
        draw(
            geometry(found.module), 1.0, seed=seed, index=found.index, purpose=Purpose.FEEDBACK
        ).size
        for found in weight_layers(model)
    )
