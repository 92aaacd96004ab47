"""The same RetinaNet with a ResNet-18 in torchvision and in KerasHub, mapped both ways.

torchvision lists the subnet of the classes first, KerasHub that of the boxes.

What remains different between the two, after ``models.pytorch_retinanet`` and
``models.keras3_retinanet`` have set their options alike:

- Sums are added in other orders.
- KerasHub adds 1e-7 to the union of two boxes, which in float32 changes nothing above 2 pixels.
- KerasHub encodes boxes in float32, whatever the network computes in.
- Where several objects overlap an anchor equally, Keras takes the first, torch any of them; where
  several detections have the same score, likewise.
- torchvision suppresses few boxes at once by moving each class to a place of its own, which
  rounds their corners.
"""

from antiparallel.benchmarks.models.correspondence import Correspondence
from antiparallel.benchmarks.models.resnet18 import CONVOLUTIONS, NORMALIZATIONS, RESNET18

BACKBONE = "backbone.body."
"""How torchvision's names of the backbone's layers begin; their ends are ResNet-18's."""

_PYRAMID = (
    {f"backbone.fpn.inner_blocks.{n}.0": f"fpn/lateral_conv_P{n + 3}" for n in range(3)}
    | {f"backbone.fpn.layer_blocks.{n}.0": f"fpn/output_conv_P{n + 3}" for n in range(3)}
    | {f"backbone.fpn.extra_blocks.p{level}": f"fpn/coarser_P{level}" for level in (6, 7)}
)

_SUBNETS = {
    f"head.{theirs}_head.{layer}": f"{ours}_head/{name}"
    for theirs, ours, last in (
        ("classification", "classification", "cls_logits"),
        ("regression", "box", "bbox_reg"),
    )
    for layer, name in (
        *((f"conv.{n}.0", f"conv2d_{n}") for n in range(4)),
        (last, "logits_layer"),
    )
}

RETINANET = Correspondence(
    "RetinaNet with a ResNet-18",
    {BACKBONE + torch: keras for torch, keras in CONVOLUTIONS.items()} | _PYRAMID | _SUBNETS,
    {BACKBONE + torch: keras for torch, keras in NORMALIZATIONS.items()},
)


def correspondence_of(model: str) -> Correspondence | None:
    """Return a recipe's network in both libraries; None for networks that no library has."""
    return {"resnet18": RESNET18, "retinanet": RETINANET}.get(model)
