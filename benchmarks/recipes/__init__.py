"""The experiments as data: one frozen recipe per tier, network and learning setting."""

from antiparallel.benchmarks.recipes.coco import coco_recipes, coco_tiny_recipes
from antiparallel.benchmarks.recipes.digits import digits_recipes
from antiparallel.benchmarks.recipes.imagenet import imagenet_recipes, small_recipes
from antiparallel.benchmarks.recipes.recipe import (
    COMPARED,
    LEARNING,
    SETTINGS,
    Recipe,
    Setting,
    override,
    parse_overrides,
)
from antiparallel.spec import SpecError

__all__ = [
    "COMPARED",
    "LEARNING",
    "RECIPES",
    "SETTINGS",
    "TIERS",
    "Recipe",
    "Setting",
    "find_recipe",
    "override",
    "parse_overrides",
    "tier_recipes",
]

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *digits_recipes(),
        *imagenet_recipes(),
        *small_recipes("imagenette"),
        *small_recipes("cifar10"),
        *coco_recipes(),
        *coco_tiny_recipes(),
    )
}
"""Every recipe by its name."""

TIERS: tuple[str, ...] = tuple(dict.fromkeys(recipe.tier for recipe in RECIPES.values()))
"""What ``antiparallel reproduce`` can reproduce."""


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name, or raise SpecError."""
    if name not in RECIPES:
        raise SpecError(
            f"Expected one of the recipes {', '.join(RECIPES)}. Received: recipe={name!r}"
        )
    return RECIPES[name]


def tier_recipes(tier: str) -> list[Recipe]:
    """Return a tier's rows of the paper's Table 1, in its order, or raise SpecError."""
    if tier not in TIERS:
        raise SpecError(f"Expected one of the tiers {', '.join(TIERS)}. Received: tier={tier!r}")
    return [
        recipe for recipe in RECIPES.values() if recipe.tier == tier and recipe.setting in SETTINGS
    ]
