"""The paper's experiment on COCO, and the same experiment in small.

The paper's settings: Xiao et al. (2019), section 3.2: RetinaNet with a ResNet-18, the last layers
of both subnets by backprop, 40,000 updates of 8 pictures. How large these were, it does not say.
"""

from typing import Any

from antiparallel.benchmarks.recipes.recipe import SETTINGS, Recipe

LAST_LAYERS = ("head.classification_head.cls_logits", "head.regression_head.bbox_reg")
"""Of both subnets, by torchvision's names."""

_TRAINING: dict[str, Any] = {
    "size": 928,
    "resize": 600,
    "anchor_size": 4.0,
    "epochs": 8,
    "steps_per_epoch": 5000,
    "batch_size": 8,
    "lr": 0.01,
    "lr_drops": (4,),
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "checkpoint_every": 500,
    "threads": 8,
}

_TINY: dict[str, Any] = {
    "training_pictures": 8,
    "evaluated_on": "training",
    "size": 160,
    "resize": 160,
    "anchor_size": 1.0,
    "epochs": 10,
    "steps_per_epoch": 40,
    "batch_size": 4,
    "lr": 0.01,
    "lr_drops": (8,),
    "checkpoint_every": 20,
    "threads": 2,
}
"""Small pictures, and anchors that are smaller by as much; eight of them, to be learnt by heart."""


def coco_recipes() -> list[Recipe]:
    """Return the paper's three settings."""
    return [_recipe("coco", name, _TRAINING) for name in ("bp", "ss", "fa")]


def coco_tiny_recipes() -> list[Recipe]:
    """Return the same recipes in small."""
    return [_recipe("coco-tiny", name, _TRAINING | _TINY) for name in ("bp", "ss", "fa")]


def _recipe(tier: str, name: str, training: dict[str, Any]) -> Recipe:
    rule = SETTINGS[name].rule
    last = {} if rule == "bp" else dict.fromkeys(LAST_LAYERS, "bp")
    return Recipe.model_validate(
        {
            "tier": tier,
            "model": "retinanet",
            "setting": name,
            "rule": rule,
            "overrides": last,
            "augmentation": "flip",
            **training,
        }
    )
