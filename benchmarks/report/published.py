"""What others published for the same networks, and where; nothing from memory."""

from dataclasses import dataclass
from math import isnan

from antiparallel.benchmarks.recipes import RECIPES
from antiparallel.benchmarks.report.measures import Measure, Task
from antiparallel.benchmarks.report.results import Experiment, Spread

PAPERS_TIER: dict[Task, str] = {"classification": "imagenet", "detection": "coco"}
"""The tier of the paper's own experiment."""

METRICS: dict[Task, dict[str, str]] = {
    "classification": {"error": "top-1", "top5_error": "top-5"},
    "detection": {"ap": "AP"},
}
"""Measures that publications have numbers of, by their names."""

WHAT: dict[Task, str] = {
    "classification": "Validation errors on ImageNet.",
    "detection": "AP of boxes on COCO's val2017.",
}


@dataclass(frozen=True)
class Reference:
    """A publication's numbers on the data of the paper's own experiment.

    Args:
        task: What its networks are for.
        name: The publication in a few words.
        source: Where its numbers are.
        setting: How its networks were trained, where that differs from the paper's.
        absent: Why a number that one would look for is not there.
        percentages: By network, setting and metric.
    """

    task: Task
    name: str
    source: str
    setting: str
    absent: str
    percentages: dict[tuple[str, str, str], float]


REFERENCES: tuple[Reference, ...] = (
    Reference(
        task="classification",
        name="Xiao et al. (2019)",
        source="arXiv:1811.03567, Table 1",
        setting="50 epochs, one crop",
        # No source of the table's numbers could be read when this was written.
        absent="not verified",
        percentages={},
    ),
    Reference(
        task="classification",
        name="BioTorch",
        source="github.com/jsalbert/biotorch, Benchmarks.md at 536ea216",
        setting="75 epochs, learning rate 0.1 for all of these, divided by 10 at epochs 20, 40, "
        "60; its feedback is scaled by another lambda",
        absent="not published",
        percentages={
            ("resnet18", "bp", "error"): 30.39,
            ("resnet18", "ss", "error"): 34.97,
            ("resnet18", "ss-fixed", "error"): 36.5,
            ("resnet18", "fa", "error"): 85.25,
        },
    ),
    Reference(
        task="detection",
        name="MMDetection",
        source="github.com/open-mmlab/mmdetection, configs/retinanet/README.md at 10e91fd2, "
        "R-18-FPN 1x and 1x (1 x 8 BS)",
        setting="12 epochs, pictures of 1333 x 800 at most, torchvision's backbone trained on "
        "ImageNet; the second in batches of 8 with learning rate 0.0025",
        absent="not published",
        percentages={("retinanet", "bp", "ap"): 31.7},
    ),
)
"""Publications. A number stands here only if it was read in the source that is named."""


@dataclass(frozen=True)
class Cell:
    """A published number beside ours.

    Args:
        percent: The number; None where the reference has none.
        difference: Ours minus it, in points; None where either is missing or ours is
            another experiment.
    """

    percent: float | None
    difference: float | None


@dataclass(frozen=True)
class Beside:
    """One of our numbers with what each of the task's ``references`` has for it."""

    setting: str
    measure: Measure
    ours: Spread
    cells: tuple[Cell, ...]


def references(task: Task) -> tuple[Reference, ...]:
    """Return the publications about networks of a task."""
    return tuple(reference for reference in REFERENCES if reference.task == task)


def beside(experiment: Experiment) -> list[Beside]:
    """Return an experiment's numbers beside the published ones; none for a network of our own."""
    first, *others = (m for m in experiment.measures if m.name in METRICS[experiment.task])
    return [
        Beside(
            result.setting,
            measure,
            ours,
            tuple(
                _cell(reference, experiment, result.setting, measure, ours)
                for reference in references(experiment.task)
            ),
        )
        for result in experiment.settings
        if f"{PAPERS_TIER[experiment.task]}/{experiment.model}-{result.setting}" in RECIPES
        for measure in (first, *others)
        if (ours := result.spread(measure)).n or measure == first
    ]


def _cell(
    reference: Reference, experiment: Experiment, setting: str, measure: Measure, ours: Spread
) -> Cell:
    percent = reference.percentages.get((experiment.model, setting, measure.name))
    same_data = experiment.tier == PAPERS_TIER[experiment.task]
    if percent is None or not same_data or isnan(ours.mean):
        return Cell(percent, None)
    return Cell(percent, ours.mean - percent)
