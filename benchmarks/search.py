"""The learning-rate search: one recipe at several rates, each from the same start."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

from antiparallel.benchmarks.data.splits import Watch as WatchCheck
from antiparallel.benchmarks.data.splits import unwatched as unwatched_check
from antiparallel.benchmarks.files import write_atomically
from antiparallel.benchmarks.recipes import Recipe, override
from antiparallel.benchmarks.record import Record, command_line, describe_machine
from antiparallel.benchmarks.report.measures import Measure, headline, task_of
from antiparallel.benchmarks.report.results import Spread
from antiparallel.benchmarks.report.runs import Run
from antiparallel.benchmarks.report.words import without_nan
from antiparallel.benchmarks.reproduce import Job
from antiparallel.benchmarks.stepper import require_backend
from antiparallel.benchmarks.train import Data, open_dataset
from antiparallel.spec import SpecError

RATES = (0.1, 0.05, 0.01, 0.001, 0.0001)
"""The rates that the paper's authors searched."""


@dataclass(frozen=True)
class Tried:
    """What a learning rate came to, over seeds.

    Args:
        rate: The learning rate of the first epoch.
        measure: What rates are ranked by: validation error, or average precision.
        score: That, of the runs that completed.
        loss: Training loss in the last epoch, in nats, of these.
        diverged: How many diverged.
    """

    rate: float
    measure: Measure
    score: Spread
    loss: Spread
    diverged: int


def plan_search(
    recipe: Recipe,
    rates: Sequence[float],
    *,
    backend: str,
    seeds: int,
    out: Path,
    data: Data,
    overrides: Mapping[str, str],
    previous_checkpoint: bool = False,
    watch_check: WatchCheck = unwatched_check,
) -> list[Job]:
    """Return the runs of a search, seed by seed, below a folder.

    Args:
        recipe: The recipe, overrides applied.
        rates: Learning rates of the first epoch; the recipe's drops hold for each.
        backend: A key of ``STEPPERS``.
        seeds: Runs of each rate, with seeds 0, 1, ...
        out: The folder.
        data: Where the pictures are.
        overrides: What the command line changed in the recipe.
        previous_checkpoint: See ``train``.
        watch_check: Told of the progress of the pictures' check.

    Raises:
        SpecError: An argument is not allowed, or the data set is none. Nothing is written.
    """
    require_backend(backend)
    if seeds < 1:
        raise SpecError(f"Expected at least one seed. Received: seeds={seeds}")
    if not rates or len(set(rates)) < len(rates) or "lr" in overrides:
        raise SpecError(
            "Expected learning rates that differ, and none by --set. "
            f"Received: rates={list(rates)}, --set lr={overrides.get('lr')}"
        )
    recipes = {rate: override(recipe, {"lr": str(rate)}) for rate in rates}
    open_dataset(recipe, data, watch_check).close()
    return [
        Job(
            recipe=recipes[rate],
            overrides={**overrides, "lr": str(rate)},
            backend=backend,
            seed=seed,
            data=data,
            out=out / f"lr-{rate}" / f"seed-{seed}",
            previous_checkpoint=previous_checkpoint,
        )
        for seed in range(seeds)
        for rate in rates
    ]


def tried(records: Iterable[Record]) -> list[Tried]:
    """Return what each learning rate came to, the best first, those without a complete run last.

    The best has the lowest error, or the highest average precision; of equal ones, as detectors are
    that have found nothing yet, the one with the lowest training loss.
    """
    by_rate: dict[float, list[Record]] = {}
    for record in records:
        by_rate.setdefault(record.recipe.lr, []).append(record)
    found = [_tried(rate, runs) for rate, runs in by_rate.items()]
    return sorted(found, key=_place)


def write_search(found: Sequence[Tried], records: Sequence[Record], out: Path) -> Path:
    """Write a search's numbers to ``search.json`` in its folder, and return its path."""
    path = out / "search.json"
    content = {
        "command": command_line(),
        "machine": describe_machine(),
        "versions": records[0].sessions[-1].versions if records else {},
        "recipe": records[0].recipe.model_dump(exclude={"lr"}) if records else {},
        "rates": [_as_json(one) for one in found],
    }
    write_atomically(path, (json.dumps(without_nan(content), indent=1) + "\n").encode())
    return path


def _tried(rate: float, runs: Sequence[Record]) -> Tried:
    complete = [Run(run) for run in runs if run.status == "complete"]
    measure = headline(task_of(runs[0].recipe))
    scores = (measure.of(run) for run in complete)
    return Tried(
        rate,
        measure,
        Spread.of([score for score in scores if not isnan(score)]),
        Spread.of([run.record.epochs[-1].train["loss"] for run in complete]),
        sum(run.status == "diverged" for run in runs),
    )


def _place(one: Tried) -> tuple[bool, bool, float, float, float]:
    """Return what rates are sorted by."""
    score = -one.score.mean if one.measure.rises else one.score.mean
    return not one.loss.n, not one.score.n, score if one.score.n else 0.0, one.loss.mean, one.rate


def _as_json(one: Tried) -> dict[str, Any]:
    return {
        "rate": one.rate,
        one.measure.key: asdict(one.score),
        "train_loss": asdict(one.loss),
        "diverged": one.diverged,
    }
