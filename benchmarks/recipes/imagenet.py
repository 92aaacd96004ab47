"""The paper's ImageNet experiment, and the same experiment in small.

The paper's settings: Xiao et al. (2019), section 3.1, and the reference code's training script.
"""

from typing import Any

from antiparallel.benchmarks.recipes.recipe import SETTINGS, Recipe

_TRAINING: dict[str, Any] = {
    "size": 224,
    "resize": 256,
    "augmentation": "random-resized-crop",
    "epochs": 50,
    "batch_size": 256,
    "lr_drops": (10, 20, 30, 40),
    "momentum": 0.9,
    "checkpoint_every": 500,
    "threads": 8,
}

_ABLATIONS: dict[str, dict[str, Any]] = {
    "ss-fixed": {"rule": "ss-fixed"},
    "ss-bm": {"rule": "ss", "batch_manhattan": True, "lr": 1e-4},
    "fa-bm": {"rule": "fa", "batch_manhattan": True, "lr": 1e-4},
    "ss-nsc": {"rule": "ss", "keep_signs": True},
}
"""Random fixed magnitudes, Batch Manhattan, no sign change. Under Batch Manhattan every entry of a
gradient is 1 or -1, so the learning rate is the size of a step, and must be smaller."""

_SMALL = {
    "imagenette": {
        "size": 64,
        "resize": 72,
        "augmentation": "random-crop",
        "epochs": 6,
        "batch_size": 64,
        "lr": 0.05,
        "lr_drops": (3.6, 5.1),
        "checkpoint_every": 74,
        "threads": 2,
    },
    "cifar10": {
        "size": 32,
        "resize": 32,
        "augmentation": "padded-crop",
        "epochs": 12,
        "batch_size": 128,
        "lr": 0.05,
        "lr_drops": (7, 10),
        "checkpoint_every": 195,
        "threads": 2,
    },
}
"""What the small tiers change: smaller pictures, fewer epochs, smaller batches, and the learning
rate that suits these, for every rule of ResNet-18 the same. Their ten classes make the paper's
lambda of the last layer, 1 / sqrt(10), 7 times the 1 / sqrt(512) that suits its weights; there
the scale is the reference code's."""


def imagenet_recipes() -> list[Recipe]:
    """Return Table 1's eight rows, in its order, and the ablations."""
    return [
        *(_recipe("resnet18", name) for name in (*SETTINGS, *_ABLATIONS)),
        *(_recipe("alexnet", name) for name in ("bp", "ss", "fa")),
    ]


def small_recipes(tier: str) -> list[Recipe]:
    """Return the same recipes in small."""
    changes: dict[str, Any] = {"tier": tier, "scale": "reference-code", **_SMALL[tier]}
    return [
        Recipe.model_validate(
            recipe.model_dump() | changes | ({"lr": recipe.lr} if _own_rate(recipe) else {})
        )
        for recipe in imagenet_recipes()
        if recipe.model == "resnet18" or changes["size"] >= 64  # of less AlexNet leaves nothing
    ]


def _recipe(model: Any, name: str) -> Recipe:
    """Return ResNet-18's or AlexNet's recipe for a setting or an ablation."""
    setting = SETTINGS.get(name)
    if setting is None:
        learning = _ABLATIONS[name]
    else:
        last = {} if setting.last_layer is None else {"fc": setting.last_layer}
        learning = {"rule": setting.rule, "overrides": last}
    if model == "resnet18":
        optimizer = {"lr": 0.1 if name == "bp" else 0.05, "weight_decay": 1e-4}
    else:
        optimizer = {"lr": 0.01, "weight_decay": 5e-4}
    fields = {"tier": "imagenet", "model": model, "setting": name}
    return Recipe(**(fields | _TRAINING | optimizer | learning))


def _own_rate(recipe: Recipe) -> bool:
    return recipe.model == "alexnet" or recipe.batch_manhattan
