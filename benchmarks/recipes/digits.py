"""The digits tier: seconds on any machine, no download."""

from antiparallel.benchmarks.recipes.recipe import SETTINGS, Recipe


def digits_recipes() -> list[Recipe]:
    """Return the recipes in the order of ``SETTINGS``.

    Eight convolutions are deep enough that feedback alignment falls clearly behind, as on
    ImageNet. scale="paper" also in the last layer: with 16 features and 10 classes its lambda,
    1 / sqrt(10) = 0.32, is close to the 1 / sqrt(16) = 0.25 of the other convention. (In wide
    networks with few classes it is not: 512 features and 10 classes make it 7 times too large.)
    """
    return [
        Recipe(
            tier="digits",
            model="convnet",
            setting=name,
            rule=setting.rule,
            overrides={} if setting.last_layer is None else {"fc": setting.last_layer},
            depth=8,
            width=16,
            epochs=12,
            batch_size=50,
            lr=0.05,
            lr_drops=(8, 11),
            momentum=0.9,
            weight_decay=1e-4,
            checkpoint_every=14,
        )
        for name, setting in SETTINGS.items()
    ]
