"""What a case trains in PyTorch: its network, its pictures and its loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import antiparallel.torch as ap
from antiparallel.benchmarks.models.networks import AlexNet, ConvNet
from antiparallel.benchmarks.models.pytorch import alexnet, convnet
from antiparallel.benchmarks.recipes.coco import LAST_LAYERS
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.contender import PLAIN
from antiparallel.benchmarks.tasks.pytorch import Outputs, Targets
from antiparallel.spec import SpecError

CLASSES = {"convnet": 10, "retinanet": 80}
"""Of the digits and of COCO's objects; every other network has ImageNet's 1,000."""

_OBJECTS = 4  # in each picture
_SUBNET_SCALE = 0.01  # the recipe's: by the paper's lambda, logits begin at tens of nats


def build_network(case: Case, rule: str) -> nn.Module:
    """Build a case's network with the library's initial weights, the same under every rule.

    Args:
        case: What it is.
        rule: ``"plain"``, or a rule's name.

    Raises:
        SpecError: There is no such rule, or the network cannot be built for these pictures.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)
        model = _plain(case)
    if rule != PLAIN:
        last = dict.fromkeys(LAST_LAYERS, "bp") if case.model == "retinanet" else {}
        ap.convert(model, rule, overrides=last, seed=case.seed)
    if case.model == "retinanet":
        from antiparallel.benchmarks.models import pytorch_retinanet

        assert isinstance(model, pytorch_retinanet.RetinaNet)
        with torch.no_grad():
            pytorch_retinanet.start_subnets(model, _SUBNET_SCALE, case.seed)
    return model


def random_pictures(case: Case) -> tuple[Tensor, Targets]:
    """Return the batch that every step of a case sees.

    Returns:
        Standardised pictures, ``(batch, 3, pixels, pixels)``, and what they show: a class each or,
        for a detector, four objects.
    """
    drawn = torch.Generator().manual_seed(case.seed)
    images = torch.randn(case.batch, 3, case.pixels, case.pixels, generator=drawn)
    classes = CLASSES.get(case.model, 1000)
    if case.model != "retinanet":
        return images, Targets(
            torch.randint(classes, (case.batch,), generator=drawn), torch.empty(0)
        )
    labels = torch.randint(classes, (case.batch, _OBJECTS), generator=drawn)
    corners = torch.rand(case.batch, _OBJECTS, 2, generator=drawn) * case.pixels / 2
    sides = (torch.rand(case.batch, _OBJECTS, 2, generator=drawn) + 1) * case.pixels / 4
    return images, Targets(labels, torch.cat([corners, corners + sides], 2))


def mean_loss(model: nn.Module, pixels: int, outputs: Outputs, targets: Targets) -> Tensor:
    """Return the mean loss of a batch's pictures, in nats.

    Args:
        model: The network, not wrapped; a detector knows its own losses.
        pixels: Height and width of the pictures.
        outputs: What the network returned for them.
        targets: What they show.
    """
    if isinstance(outputs, Tensor):
        return F.cross_entropy(outputs, targets.labels)
    from antiparallel.benchmarks.models import pytorch_retinanet

    assert isinstance(model, pytorch_retinanet.RetinaNet)
    losses = model.picture_losses(pixels, outputs, *targets)
    return torch.stack(list(losses.values())).sum(0).mean()


def _plain(case: Case) -> nn.Module:
    classes = CLASSES.get(case.model, 1000)
    if case.model == "convnet":
        return convnet(ConvNet(3, classes, case.depth, case.width))
    if case.model == "alexnet":
        return alexnet(AlexNet(3, classes))
    if case.model == "retinanet":
        from antiparallel.benchmarks.models.pytorch_retinanet import build_retinanet

        return build_retinanet(classes, anchor_size=4.0, frozen=False)
    from torchvision import models

    if case.model == "vit":
        if case.pixels % 16:
            raise SpecError(
                f"Expected a multiple of 16 pixels for a ViT-B/16. Received: pixels={case.pixels}"
            )
        vit: nn.Module = models.vit_b_16(image_size=case.pixels, num_classes=classes)
        return vit
    resnet: nn.Module = getattr(models, case.model)(num_classes=classes)
    return resnet
