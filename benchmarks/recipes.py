"""The experiments as data: one frozen recipe per network, tier and learning setting."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from antiparallel.spec import Scale, SpecError, as_rule

_FIXED = ("tier", "model")
"""Fields that say which experiment a recipe belongs to; every other one can be overridden."""

COMPARED = ("setting", "rule", "overrides")
"""Fields in which the recipes of one experiment differ from each other."""


class Setting(NamedTuple):
    """One line of the paper's Table 1: the rule, and whether the last layer learns by backprop."""

    title: str
    rule: str
    last_layer: str | None = None


SETTINGS: dict[str, Setting] = {
    "bp": Setting("Backprop", "bp"),
    "ss": Setting("Sign-symmetry", "ss"),
    "ss-lastbp": Setting("Sign-symmetry, last layer BP", "ss", "bp"),
    "fa": Setting("Feedback alignment", "fa"),
    "fa-lastbp": Setting("Feedback alignment, last layer BP", "fa", "bp"),
}
"""The paper's five settings, in the order in which tables and figures show them."""


class Recipe(BaseModel):
    """Everything that determines a run, apart from its seed and its backend.

    Args:
        tier: Data and size of the experiment.
        model: Network.
        setting: A key of ``SETTINGS``, or a name of the user's own in ``a-z0-9.-``.
        depth: Convolutions of the network.
        width: Channels of every convolution.
        rule: Short name of the learning rule.
        overrides: Glob patterns on layer names to the rules that hold there instead.
        scale: lambda's convention, or a number.
        epochs: Passes through the training pictures.
        batch_size: Pictures per update; a remainder is left out of its epoch.
        lr: Learning rate of the first epoch.
        lr_drops: Epochs (from 0) at whose start the learning rate is divided by 10.
        momentum: Momentum.
        weight_decay: Coupled (L2) weight decay, on every parameter.
        checkpoint_every: Updates between two checkpoints; one is also written after each epoch.
        device: Device, in the backend's own words.
        threads: CPU threads. Results are bit-identical only between runs that use the same number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tier: Literal["digits"]
    model: Literal["convnet"]
    setting: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    rule: str
    overrides: dict[str, str] = {}
    scale: Scale = "paper"
    depth: int = Field(ge=1, le=64)
    width: int = Field(ge=1, le=4096)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, allow_inf_nan=False)
    lr_drops: tuple[int, ...] = ()
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, allow_inf_nan=False)
    checkpoint_every: int = Field(ge=1)
    device: str = "cpu"
    threads: int = Field(default=1, ge=1)

    @field_validator("rule")
    @classmethod
    def _known_rule(cls, rule: str) -> str:
        return as_rule(rule).name

    @field_validator("overrides")
    @classmethod
    def _known_rules(cls, overrides: dict[str, str]) -> dict[str, str]:
        return {pattern: as_rule(rule).name for pattern, rule in overrides.items()}

    @property
    def name(self) -> str:
        """The name that ``antiparallel train`` takes."""
        return f"{self.tier}/{self.model}-{self.setting}"

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.lr * 0.1 ** sum(epoch >= drop for drop in self.lr_drops)


def _digits(name: str, setting: Setting) -> Recipe:
    """Return the digits tier's recipe for one setting.

    Eight convolutions are deep enough that feedback alignment falls clearly behind, as on
    ImageNet. scale="paper" also in the last layer: with 16 features and 10 classes its lambda,
    1 / sqrt(10) = 0.32, is close to the 1 / sqrt(16) = 0.25 of the other convention. (In wide
    networks with few classes it is not: 512 features and 10 classes make it 7 times too large.)
    """
    return Recipe(
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


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (_digits(name, SETTINGS[name]) for name in SETTINGS)
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
    """Return a tier's recipes in the order of ``SETTINGS``, or raise SpecError."""
    if tier not in TIERS:
        raise SpecError(f"Expected one of the tiers {', '.join(TIERS)}. Received: tier={tier!r}")
    return [recipe for recipe in RECIPES.values() if recipe.tier == tier]


def parse_overrides(assignments: Sequence[str]) -> dict[str, str]:
    """Return ``{"epochs": "3"}`` for ``["epochs=3"]``, or raise SpecError."""
    parsed = {}
    for assignment in assignments:
        field, equals, value = assignment.partition("=")
        if not equals or not field:
            raise SpecError(f"Expected --set FIELD=VALUE. Received: --set {assignment}")
        parsed[field.strip()] = value.strip()
    return parsed


def override(recipe: Recipe, overrides: Mapping[str, str]) -> Recipe:
    """Return the recipe with some fields replaced, as given on the command line.

    Args:
        recipe: The recipe to start from.
        overrides: Field to text: a number, a name, numbers with commas (``lr_drops``), or
            ``pattern:rule`` pairs with commas (``overrides``).

    Raises:
        SpecError: A field is unknown or fixed, a value is not allowed there, or the rules are
            others but the setting keeps its name, so that tables would mix it with the original.
    """
    fields = [field for field in Recipe.model_fields if field not in _FIXED]
    for field in overrides:
        if field not in fields:
            raise SpecError(f"Expected one of the fields {', '.join(fields)}. Received: {field}")
    values = {field: _parse(field, text) for field, text in overrides.items()}
    try:
        changed = Recipe.model_validate(recipe.model_dump() | values)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise SpecError(
            f"{field}: {first['msg']}. Received: {field}={overrides.get(field)!r}"
        ) from error
    others = (changed.rule, changed.overrides) != (recipe.rule, recipe.overrides)
    if others and changed.setting == recipe.setting:
        raise SpecError(
            "Expected a name for the setting, as in --set setting=mine, since its rules change. "
            f"Received: rule={changed.rule!r}, overrides={changed.overrides}"
        )
    return changed


def _parse(field: str, text: str) -> Any:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if field == "lr_drops":
        return items
    if field == "overrides":
        return dict(_pattern_and_rule(item) for item in items)
    return text


def _pattern_and_rule(item: str) -> tuple[str, str]:
    pattern, colon, rule = item.rpartition(":")
    if not colon:
        raise SpecError(f"Expected overrides as PATTERN:RULE. Received: overrides={item!r}")
    return pattern, rule
