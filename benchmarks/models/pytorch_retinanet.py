"""torchvision's RetinaNet with a ResNet-18, its losses and detections apart from the network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from antiparallel.benchmarks.models.correspondence import Arrays
from antiparallel.benchmarks.models.detector import (
    ASPECT_RATIOS,
    CANDIDATES,
    DETECTIONS,
    LEVELS,
    NEGATIVE,
    OVERLAP,
    POSITIVE,
    PRIOR_BIAS,
    SCORE,
    anchor_sizes,
    grids,
)
from antiparallel.benchmarks.models.pytorch import draw_anew
from antiparallel.torch.inventory import weight_layers

Outputs = dict[str, Tensor]


class RetinaNet(detection.RetinaNet):
    """torchvision's RetinaNet, whose ``forward`` is the network alone.

    What wraps or compiles a network then has nothing of data-dependent shape in it. All else is
    torchvision's: matching, losses, and what is made of the outputs.
    """

    def forward(self, images: Tensor) -> Outputs:
        """Return what the subnets say of each anchor.

        Args:
            images: Standardised pictures, ``(batch, 3, size, size)``.

        Returns:
            ``"cls_logits"``, ``(batch, anchors, classes)``, and ``"bbox_regression"``,
            ``(batch, anchors, 4)``; anchors in the order of ``anchors``.
        """
        outputs: Outputs = self.head(list(self.backbone(images).values()))
        return outputs

    def anchors(self, size: int, device: torch.device | str = "cpu") -> list[Tensor]:
        """Return each level's anchors, ``(anchors, 4)``: left, top, right, bottom in pixels."""
        cells = grids(size)
        # In float32 under autocast too, whose features would round pixels to eight bits
        self.anchor_generator.set_cell_anchors(torch.float32, device)
        strides = [[size // n, size // n] for n in cells]
        found: list[Tensor] = self.anchor_generator.grid_anchors([[n, n] for n in cells], strides)
        return found

    def picture_losses(self, size: int, outputs: Outputs, labels: Tensor, boxes: Tensor) -> Outputs:
        """Return the losses of each picture, ``(batch,)``, each divided by its positive anchors.

        ``"classification"`` is the focal loss, summed over anchors and classes;
        ``"regression"`` the L1 distance of the encoded boxes, summed over the four coordinates
        and the positive anchors.

        Args:
            size: Height and width of the pictures.
            outputs: What ``forward`` returned for them.
            labels: The class of each object, ``(batch, most)``, -1 where there is none.
            boxes: Where they are, ``(batch, most, 4)``: left, top, right, bottom in pixels.
        """
        anchors = torch.cat(self.anchors(size, labels.device))
        found: dict[str, list[Tensor]] = {"classification": [], "bbox_regression": []}
        for index, (classes, places) in enumerate(zip(labels, boxes, strict=True)):
            real = classes >= 0
            target = {"labels": classes[real], "boxes": places[real]}
            one = {name: _wide(output[index : index + 1]) for name, output in outputs.items()}
            for name, loss in self.compute_loss([target], one, [anchors]).items():
                found[name].append(loss)
        classification, regression = (torch.stack(losses) for losses in found.values())
        return {"classification": classification, "regression": regression}

    @torch.no_grad()
    def detections(self, size: int, outputs: Outputs) -> list[list[list[float]]]:
        """Return what is found in each picture.

        Args:
            size: Height and width of the pictures.
            outputs: What ``forward`` returned for them.

        Returns:
            For each picture a row for each object, best first: left, top, right, bottom in
            pixels, score, class.
        """
        anchors = self.anchors(size, outputs["cls_logits"].device)
        lengths = [len(level) for level in anchors]
        levels = {
            name: list(torch.split(_wide(output), lengths, 1)) for name, output in outputs.items()
        }
        pictures = len(outputs["cls_logits"])
        found = self.postprocess_detections(levels, [anchors] * pictures, [(size, size)] * pictures)
        rows: list[list[list[float]]] = []
        for picture in found:
            columns = (picture["boxes"], picture["scores"][:, None], picture["labels"][:, None])
            rows.append(torch.cat(columns, 1).tolist())
        return rows


def _wide(output: Tensor) -> Tensor:
    return output.to(torch.promote_types(output.dtype, torch.float32))


def start_subnets(model: RetinaNet, scale: float, seed: int) -> None:
    """Draw the subnets' weights and feedback anew by another lambda, and make classes rare.

    Args:
        model: The model, converted or not, and initialised by the specification.
        scale: lambda in the subnets.
        seed: The experiment's seed; layers keep their numbers in the whole model.
    """
    head = set(model.head.modules())
    for found in weight_layers(model):
        if found.module in head:
            draw_anew(found.module, scale, (seed, found.index))
    nn.init.constant_(model.head.classification_head.cls_logits.bias, PRIOR_BIAS)


def write_backbone(model: RetinaNet, arrays: Arrays) -> None:
    """Give the backbone the weights of ``models.backbone.backbone_weights``."""
    state = model.backbone.body.state_dict()
    for name, array in arrays.items():
        state[name].copy_(torch.from_numpy(array))


def build_retinanet(classes: int, anchor_size: float, frozen: bool) -> RetinaNet:
    """Build a RetinaNet with a ResNet-18, of which all layers learn.

    Args:
        classes: Classes, without one for the background.
        anchor_size: The side of a level's smallest anchors, in strides of the level.
        frozen: Whether the backbone's batch normalisation is a constant, as weights that were
            trained elsewhere need it; else it is trained.
    """
    norm: Callable[..., nn.Module] = FrozenBatchNorm2d if frozen else nn.BatchNorm2d
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=norm,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    return RetinaNet(
        backbone,
        classes,
        anchor_generator=AnchorGenerator(
            tuple(anchor_sizes(anchor_size)), (ASPECT_RATIOS,) * len(LEVELS)
        ),
        proposal_matcher=Matcher(POSITIVE, NEGATIVE, allow_low_quality_matches=False),
        score_thresh=SCORE,
        nms_thresh=OVERLAP,
        detections_per_img=DETECTIONS,
        topk_candidates=CANDIDATES,
    )
