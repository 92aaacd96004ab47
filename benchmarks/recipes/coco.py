"""The paper's experiment on COCO, and the same experiment in small.

The paper's settings: Xiao et al. (2019), section 3.2: RetinaNet with a ResNet-18, the last layers
of both subnets by backprop, 40,000 updates of 8 pictures. How large these were, it does not say.
"""

from typing import Any

from antiparallel.benchmarks.recipes.recipe import SETTINGS, Recipe

LAST_LAYERS = ("head.classification_head.cls_logits", "head.regression_head.bbox_reg")
"""Of both subnets, by torchvision's names."""

_TRAINING: dict[str, Any] = {
    # Whole pictures up to the ratio of 3 to 2; see the recipe for the odd number
    "size": 928,
    "resize": 600,
    "anchor_size": 4.0,
    "subnet_scale": 0.01,
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
"""lambda in the subnets is the deviation that Lin et al. (2017) begin their weights with: by the
paper's, logits begin at tens of nats, and the first update makes the loss infinite, under every
rule."""

_TINY: dict[str, Any] = {
    "training_pictures": 8,
    "evaluated_on": "training",
    "size": 160,
    "resize": 160,
    "anchor_size": 2.0,
    "subnet_scale": 0.02,
    "epochs": 8,
    "steps_per_epoch": 25,
    "batch_size": 4,
    "lr": 0.002,
    "lr_drops": (6,),
    "checkpoint_every": 25,
    "threads": 1,
}
"""Eight small pictures of large objects, to be learnt by heart; every object has an anchor.

In so few updates the subnets have to begin nearer to the paper's lambda, sqrt(2 / (9 * 256)) or
0.029, and the learning rate must then be lower: with 0.01 no rule's losses stayed finite.
"""


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
