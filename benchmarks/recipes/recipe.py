"""An experiment as data: everything that determines a run, apart from seed and backend."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from antiparallel.benchmarks.data.transforms import Augmentation, Preprocessing
from antiparallel.spec import Scale, SpecError, as_rule

_OPTIONAL = (
    "depth",
    "width",
    "size",
    "resize",
    "augmentation",
    "training_pictures",
    "anchor_size",
    "subnet_scale",
    "steps_per_epoch",
    "error_dtype",
)
"""Fields that may have no value."""

_DETECTORS = ("training_pictures", "evaluated_on", "backbone", "anchor_size", "subnet_scale")
"""Fields of detectors only."""

_FIXED = ("tier", "model")
"""Fields that say which experiment a recipe belongs to; every other one can be overridden."""

LEARNING = ("setting", "rule", "overrides")
"""Fields that say how a network learns, and what that is called."""

COMPARED = (*LEARNING, "lr", "batch_manhattan", "keep_signs")
"""Fields in which the recipes of one experiment may differ from each other."""


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
        rule: Short name of the learning rule.
        overrides: Glob patterns on layer names to the rules that hold there instead.
        scale: lambda's convention, or a number.
        depth: Convolutions of a ``convnet``.
        width: Channels of every convolution of a ``convnet``.
        size: Height and width of the pictures that the network sees, in pixels.
        resize: The shorter side that pictures are resized to before that; see ``Preprocessing``.
        augmentation: What an epoch shows of a training picture; see ``Preprocessing``.
        training_pictures: How many training pictures are used, those whose smallest object takes
            most of its picture; None: all.
        evaluated_on: The pictures that metrics are found on.
        backbone: Weights that a detector's backbone begins with, whose normalisation they freeze:
            ``"none"``, torchvision's by name, or a run folder of the same network's.
        anchor_size: The side of a detector's smallest anchors, in strides of their level.
        subnet_scale: lambda in a detector's subnets, of weights and feedback.
        epochs: Passes through the training pictures, or stretches of ``steps_per_epoch``.
        steps_per_epoch: Updates from one validation to the next, if not a pass through the
            training pictures.
        batch_size: Pictures per update; a remainder is left out of its epoch.
        lr: Learning rate of the first epoch.
        lr_drops: After how many epochs the learning rate is divided by 10; parts of epochs too.
        momentum: Momentum.
        weight_decay: Coupled (L2) weight decay, on every parameter.
        batch_manhattan: Whether the sign of each gradient takes its place.
        keep_signs: Whether weights are stopped where they would cross zero.
        checkpoint_every: Updates between two checkpoints; one is also written after each epoch.
        device: Device, in the backend's own words.
        precision: What the network computes in; weights and optimizer are in float32.
        error_dtype: What errors are rounded to where they meet B; None: they are not. The forward
            pass and the gradients of weights stay as they are.
        compiled: Whether the engine compiles the network: ``torch.compile``, or XLA. On JAX it
            always does; with Keras on torch that takes minutes.
        threads: CPU threads. Results are bit-identical only between runs that use the same number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tier: Literal["digits", "imagenet", "imagenette", "cifar10", "coco", "coco-tiny"]
    model: Literal["convnet", "resnet18", "alexnet", "retinanet"]
    setting: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    rule: str
    overrides: dict[str, str] = {}
    scale: Scale = "paper"
    depth: int | None = Field(default=None, ge=1, le=64)
    width: int | None = Field(default=None, ge=1, le=4096)
    size: int | None = Field(default=None, ge=32, le=1024)
    resize: int | None = Field(default=None, ge=32, le=1024)
    augmentation: Augmentation | None = None
    training_pictures: int | None = Field(default=None, ge=1)
    evaluated_on: Literal["validation", "training"] = "validation"
    backbone: str = "none"
    anchor_size: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    subnet_scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    epochs: int = Field(ge=1)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, allow_inf_nan=False)
    lr_drops: tuple[float, ...] = ()
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, allow_inf_nan=False)
    batch_manhattan: bool = False
    keep_signs: bool = False
    checkpoint_every: int = Field(ge=1)
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    error_dtype: Literal["bfloat16"] | None = None
    compiled: bool = False
    threads: int = Field(default=1, ge=1)

    @field_validator("rule")
    @classmethod
    def _known_rule(cls, rule: str) -> str:
        return as_rule(rule).name

    @field_validator("overrides")
    @classmethod
    def _known_rules(cls, overrides: dict[str, str]) -> dict[str, str]:
        return {pattern: as_rule(rule).name for pattern, rule in overrides.items()}

    @field_validator("lr_drops")
    @classmethod
    def _finite(cls, lr_drops: tuple[float, ...]) -> tuple[float, ...]:
        if not all(isfinite(drop) and drop >= 0 for drop in lr_drops):
            raise ValueError("Expected numbers of epochs >= 0")
        return lr_drops

    @model_validator(mode="after")
    def _fits_its_model(self) -> Self:
        if self.model == "convnet" and None in (self.depth, self.width):
            raise ValueError("Expected depth and width for a convnet")
        if self.model != "convnet" and (self.depth, self.width) != (None, None):
            raise ValueError(f"Expected depth and width for a convnet only, not a {self.model}")
        pictures = (self.size, self.resize, self.augmentation)
        if (self.tier == "digits") != (pictures == (None, None, None)) or (
            self.tier != "digits" and None in pictures
        ):
            raise ValueError("Expected size, resize and augmentation for pictures on disk only")
        if self.model == "alexnet" and (self.size or 0) < 63:
            raise ValueError(
                "Expected size >= 63 for an alexnet, whose poolings leave nothing else"
            )
        if self.model == "retinanet":
            return self._fits_a_detector()
        if self.size is not None and self.resize is not None and self.resize < self.size:
            raise ValueError(f"Expected resize >= size, {self.size}")
        if self.augmentation == "flip" or any(
            getattr(self, field) != Recipe.model_fields[field].default for field in _DETECTORS
        ):
            raise ValueError(f"Expected {', '.join(_DETECTORS)} and flip for a retinanet only")
        return self

    def _fits_a_detector(self) -> Self:
        if self.augmentation != "flip" or None in (self.anchor_size, self.subnet_scale):
            raise ValueError("Expected flip, anchor_size and subnet_scale for a retinanet")
        # Only there do both libraries pad the pyramid's coarsest levels alike.
        if self.size is not None and self.size % 128 != 32:
            raise ValueError("Expected a size of 32 more than a multiple of 128 for a retinanet")
        return self

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How pictures on disk become arrays; None for the digits, which are arrays."""
        if self.size is None or self.resize is None or self.augmentation is None:
            return None
        return Preprocessing(self.size, self.resize, self.augmentation)

    @property
    def name(self) -> str:
        """The name that ``antiparallel train`` takes."""
        return f"{self.tier}/{self.model}-{self.setting}"

    def lr_at(self, update: int, steps_per_epoch: int) -> float:
        """Return the learning rate of an update, counted from 0."""
        return self.lr * 0.1 ** sum(update >= drop for drop in self.drops(steps_per_epoch))

    def drops(self, steps_per_epoch: int) -> list[int]:
        """Return the updates from which on the learning rate is lower."""
        return [round(drop * steps_per_epoch) for drop in self.lr_drops]


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
        message = first["msg"].removeprefix("Value error, ")
        fields = [str(place) for place in first["loc"][:1]] or list(overrides)
        received = ", ".join(f"{field}={overrides.get(field)!r}" for field in fields)
        raise SpecError(f"{', '.join(fields)}: {message}. Received: {received}") from error
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
    if text == "none" and field in _OPTIONAL:
        return None
    if field == "overrides":
        return dict(_pattern_and_rule(item) for item in items)
    return text


def _pattern_and_rule(item: str) -> tuple[str, str]:
    pattern, colon, rule = item.rpartition(":")
    if not colon:
        raise SpecError(f"Expected overrides as PATTERN:RULE. Received: overrides={item!r}")
    return pattern, rule
