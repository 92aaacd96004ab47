"""``antiparallel recipes``."""

from antiparallel.benchmarks.recipes import RECIPES
from antiparallel.benchmarks.terminal import console


def recipes() -> None:
    """List the recipes that `antiparallel train` takes, and what each is."""
    for name, recipe in RECIPES.items():
        console.print(f"[bold]{name}[/]")
        fields = recipe.model_dump(exclude={"tier", "model", "setting"})
        console.print(
            "  " + "  ".join(f"{field}={value}" for field, value in fields.items()),
            highlight=False,
            markup=False,
        )
