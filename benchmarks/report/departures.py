"""What differs from the paper's setting, computed from the recipes."""

from collections import defaultdict
from dataclasses import dataclass

from antiparallel.benchmarks.recipes import RECIPES
from antiparallel.benchmarks.report.measures import Task
from antiparallel.benchmarks.report.published import PAPERS_TIER
from antiparallel.benchmarks.report.results import Experiment

_MECHANICS = {"tier", "setting", "checkpoint_every", "device", "compiled", "threads"}
"""Fields that say where and how a run is made, and nothing about what is learnt."""

OURS: dict[Task, str] = {
    "classification": "",
    "detection": "The paper does not say how large its pictures were: size, resize and anchor_size "
    "are the coco recipe's own, and so is subnet_scale, without which losses are not finite.",
}
"""What the recipe of the paper's own tier had to add to the paper."""


@dataclass(frozen=True)
class Departure:
    """A field whose value is not the paper's.

    Args:
        field: The recipe's field, or ``"data"``.
        settings: The settings in which it differs so.
        paper: The value of the recipe of the same name in the paper's own tier.
        ours: The value of the runs.
    """

    field: str
    settings: tuple[str, ...]
    paper: str
    ours: str


def departures(experiment: Experiment) -> list[Departure] | None:
    """Return what differs from the paper's setting, None if the paper has no such network."""
    tier = PAPERS_TIER[experiment.task]
    grouped: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    known = False
    for result in experiment.complete:
        record = result.records[0]
        paper = RECIPES.get(f"{tier}/{experiment.model}-{result.setting}")
        if paper is None:
            continue
        known = True
        theirs, ours = (r.model_dump(exclude=_MECHANICS) for r in (paper, record.recipe))
        differing = {f: (theirs[f], ours[f]) for f in ours if theirs[f] != ours[f]}
        if experiment.tier != tier:
            differing["data"] = (tier, experiment.tier)
        for field, (theirs_value, ours_value) in differing.items():
            key = (field, _in_words(theirs_value), _in_words(ours_value))
            grouped[key].append(result.setting)
    if not known:
        return None
    return [
        Departure(field, tuple(settings), paper, ours)
        for (field, paper, ours), settings in grouped.items()
    ]


def _in_words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{pattern}:{rule}" for pattern, rule in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
