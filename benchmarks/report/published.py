"""What others published for the same networks on ImageNet, and where; nothing from memory."""

from dataclasses import dataclass

from antiparallel.benchmarks.recipes import RECIPES
from antiparallel.benchmarks.report.results import Experiment, Spread

METRICS = {"error": "top-1", "top5_error": "top-5"}


@dataclass(frozen=True)
class Reference:
    """A publication's validation errors on ImageNet.

    Args:
        name: The publication in a few words.
        source: Where its numbers are.
        setting: How its networks were trained, where that differs from the paper's.
        absent: Why a number that one would look for is not there.
        errors: Percentages by network, setting and metric.
    """

    name: str
    source: str
    setting: str
    absent: str
    errors: dict[tuple[str, str, str], float]


REFERENCES: tuple[Reference, ...] = (
    Reference(
        name="Xiao et al. (2019)",
        source="arXiv:1811.03567, Table 1",
        setting="50 epochs, one crop",
        # No source of the table's numbers could be read when this was written.
        absent="not verified",
        errors={},
    ),
    Reference(
        name="BioTorch",
        source="github.com/jsalbert/biotorch, Benchmarks.md at 536ea216",
        setting="75 epochs, learning rate 0.1 for every rule, divided by 10 at epochs 20, 40, 60; "
        "its feedback is scaled by another lambda",
        absent="not published",
        errors={
            ("resnet18", "bp", "error"): 30.39,
            ("resnet18", "ss", "error"): 34.97,
            ("resnet18", "ss-fixed", "error"): 36.5,
            ("resnet18", "fa", "error"): 85.25,
        },
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
    """One of our errors with what each of ``REFERENCES`` has for it."""

    setting: str
    metric: str
    ours: Spread
    cells: tuple[Cell, ...]


def beside(experiment: Experiment) -> list[Beside]:
    """Return an experiment's errors beside the published ones; none for a network of our own."""
    return [
        Beside(
            result.setting,
            metric,
            ours,
            tuple(
                _cell(reference, experiment, result.setting, metric, ours)
                for reference in REFERENCES
            ),
        )
        for result in experiment.settings
        if f"imagenet/{experiment.model}-{result.setting}" in RECIPES
        for metric in METRICS
        if (ours := result.error(metric=metric)).n or metric == "error"
    ]


def _cell(
    reference: Reference, experiment: Experiment, setting: str, metric: str, ours: Spread
) -> Cell:
    percent = reference.errors.get((experiment.model, setting, metric))
    comparable = experiment.tier == "imagenet" and percent is not None and ours.n > 0
    return Cell(percent, ours.mean - percent if comparable and percent is not None else None)
