"""What a case trains in PyTorch: its network under a rule, and its loss."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import antiparallel.torch as ap
from antiparallel.benchmarks.models.networks import AlexNet, ConvNet
from antiparallel.benchmarks.models.pytorch import alexnet, convnet
from antiparallel.benchmarks.recipes.coco import LAST_LAYERS
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.contender import PLAIN
from antiparallel.benchmarks.speed.pictures import classes_of
from antiparallel.benchmarks.speed.pytorch_peer import convert_by_peer
from antiparallel.benchmarks.tasks.pytorch import Outputs, Targets

# Of the COCO recipes: by the paper's lambda, a detector's logits begin at tens of nats.
_SUBNET_SCALE = 0.01


def build_network(case: Case, rule: str) -> nn.Module:
    """Build a case's network; its initial weights are the same under every rule.

    Args:
        case: What it is.
        rule: ``"plain"``, a rule's name, or ``"PEER:RULE"``.

    Raises:
        SpecError: There is no such rule, or a peer is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)  # for what the specification does not draw
        model = ap.initialize(_plain(case), seed=case.seed)
        if ":" in rule:
            return convert_by_peer(model, rule)
    if rule != PLAIN:
        last = dict.fromkeys(LAST_LAYERS, "bp") if case.model == "retinanet" else {}
        narrow = None if case.error_dtype is None else getattr(torch, case.error_dtype)
        ap.convert(model, rule, overrides=last, seed=case.seed, error_dtype=narrow)
    if case.model == "retinanet":
        from antiparallel.benchmarks.models import pytorch_retinanet

        assert isinstance(model, pytorch_retinanet.RetinaNet)
        with torch.no_grad():
            pytorch_retinanet.start_subnets(model, _SUBNET_SCALE, case.seed)
    return model


def compute_activations_again(model: nn.Module) -> None:
    """Let a network's blocks keep their inputs only, and compute the rest again going back."""
    if isinstance(model, nn.Sequential):
        blocks = _blocks(model)
        again = partial(checkpoint_sequential, blocks, len(blocks), use_reentrant=False)
        model.forward = again  # type: ignore[method-assign]
        return
    from torchvision.models.resnet import BasicBlock, Bottleneck
    from torchvision.models.vision_transformer import EncoderBlock

    for block in model.modules():
        if isinstance(block, BasicBlock | Bottleneck | EncoderBlock):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def mean_loss(model: nn.Module, pixels: int, outputs: Outputs, targets: Targets) -> Tensor:
    """Return the mean loss of some pictures, in nats.

    Args:
        model: The network, not wrapped: a detector knows its own losses.
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


def _blocks(model: nn.Sequential) -> list[nn.Sequential]:
    """Return a chain's layers in blocks, each of which begins with a weight layer."""
    blocks: list[list[nn.Module]] = []
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            blocks.append([])
        blocks[-1].append(layer)
    return [nn.Sequential(*block) for block in blocks]


def _plain(case: Case) -> nn.Module:
    classes = classes_of(case)
    if case.model == "convnet":
        return convnet(ConvNet(3, classes, case.depth, case.width))
    if case.model == "alexnet":
        return alexnet(AlexNet(3, classes))
    if case.model == "retinanet":
        from antiparallel.benchmarks.models.pytorch_retinanet import build_retinanet

        return build_retinanet(classes, anchor_size=4.0, frozen=False)
    from torchvision import models

    if case.model == "vit":
        vit: nn.Module = models.vit_b_16(image_size=case.pixels, num_classes=classes)
        return vit
    resnet: nn.Module = getattr(models, case.model)(num_classes=classes)
    return resnet
