"""The numbers that a run ends with, by what its network is for."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.report.runs import Run

Task: TypeAlias = Literal["classification", "detection"]


def task_of(recipe: Recipe) -> Task:
    """Return what a recipe's network is for."""
    return "detection" if recipe.model == "retinanet" else "classification"


@dataclass(frozen=True)
class Measure:
    """A number that a run ends with.

    Args:
        name: Its name, as in records where it stands there.
        key: Its name in report.json.
        title: Its name in the heads of tables, with its unit.
        brief: The same for the terminal, without the unit; empty where there is no room for it.
        of: Returns it for a run with an epoch; nan where the run has none.
        unit: Its unit.
        digits: How many are shown after the point.
        rises: Whether more is better.
    """

    name: str
    key: str
    title: str
    brief: str
    of: Callable[[Run], float]
    unit: str = "%"
    digits: int = 2
    rises: bool = False

    @property
    def head(self) -> str:
        """The head of its column in the terminal."""
        return f"{self.brief[:1].upper()}{self.brief[1:]} {self.unit}".rstrip()


def last_tenth(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the losses of the last tenth of the updates, one at least if there is any."""
    return losses[-max(1, len(losses) // 10) :]


def final_loss(run: Run) -> float:
    """Return the mean training loss of the last tenth of the updates, in nats."""
    losses = run.losses.get("loss", np.empty(0))
    return float(last_tenth(losses).mean()) if len(losses) else nan


def _after(part: Literal["train", "validation"], metric: str) -> Callable[[Run], float]:
    """Return what gives a metric of the last epoch in percent."""

    def of(run: Run) -> float:
        metrics: dict[str, float] = getattr(run.record.epochs[-1], part)
        return 100 * metrics.get(metric, nan)

    return of


def _precision(name: str, title: str, brief: str) -> Measure:
    return Measure(name, f"{name}_percent", title, brief, _after("validation", name), rises=True)


_ERROR = _after("validation", "error")
_TOP5 = _after("validation", "top5_error")

MEASURES: dict[Task, tuple[Measure, ...]] = {
    "classification": (
        Measure(
            "error", "validation_error_percent", "Top-1 validation error (%)", "val. error", _ERROR
        ),
        Measure("top5_error", "validation_top5_error_percent", "Top-5 (%)", "top-5", _TOP5),
        Measure(
            "train_error",
            "train_error_percent",
            "Train error (%)",
            "train error",
            _after("train", "error"),
        ),
    ),
    "detection": (
        _precision("ap", "AP (%)", "AP"),
        _precision("ap50", "AP50 (%)", "AP50"),
        _precision("ap75", "AP75 (%)", "AP75"),
        _precision("ap_small", "AP, small (%)", ""),
        _precision("ap_medium", "AP, medium (%)", ""),
        _precision("ap_large", "AP, large (%)", ""),
        Measure(
            "loss",
            "final_training_loss",
            "Final training loss (nats)",
            "loss",
            final_loss,
            unit="",
            digits=3,
        ),
    ),
}
"""The columns of a task's table of results; the first is what runs are compared by."""

NOTES: dict[Task, str] = {
    "classification": "Train error: over the last epoch, each picture before the update it took "
    "part in.",
    "detection": "AP: average precision of boxes as COCO defines it, the mean over categories and "
    "the overlaps 0.50, 0.55 to 0.95 that count as found; AP50, AP75: at one overlap; small, "
    "medium, large: objects of less than 32 x 32 pixels, of less than 96 x 96, and others; - where "
    "there are none. Final training loss: the mean over the last tenth of the iterations, in nats, "
    "each batch before its update.",
}
"""What a reader must know of them."""


def headline(task: Task) -> Measure:
    """Return what runs of a task are compared by."""
    return MEASURES[task][0]
