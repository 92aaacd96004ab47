"""Records gathered into what a report shows: settings, each with its seeds."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.recipes import COMPARED, SETTINGS
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.report.measures import MEASURES, Measure, Task, task_of
from antiparallel.benchmarks.report.runs import Run
from antiparallel.spec import SpecError


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, with the sample standard deviation; nan where n is too small."""

    mean: float
    deviation: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of some values."""
        n = len(values)
        return cls(
            float(np.mean(values)) if n else nan,
            float(np.std(values, ddof=1)) if n > 1 else nan,
            n,
        )


@dataclass(frozen=True)
class SettingResult:
    """One setting's runs.

    Args:
        setting: Its name.
        title: Its name in full.
        runs: The complete runs, by seed.
        diverged: Seeds whose loss became infinite or not a number.
        unfinished: Seeds whose runs are not complete.
    """

    setting: str
    title: str
    runs: dict[int, Run]
    diverged: tuple[int, ...]
    unfinished: tuple[int, ...]

    @property
    def records(self) -> list[Record]:
        """The records of the complete runs."""
        return [run.record for run in self.runs.values()]

    def by_seed(self, measure: Measure) -> dict[int, float]:
        """Return a measure of every complete run that has it, by seed."""
        found = {seed: measure.of(run) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if not isnan(value)}

    def spread(self, measure: Measure) -> Spread:
        """Return a measure's spread over seeds."""
        return Spread.of(list(self.by_seed(measure).values()))

    def seconds(self) -> Spread:
        """Return the time that a run took."""
        return Spread.of([record.seconds for record in self.records])

    def curves(self, metric: str, part: str = "validation") -> NDArray[np.float64]:
        """Return a metric in percent, ``(runs, epochs)``; nan where a record has none."""
        return np.array(
            [
                [100 * getattr(epoch, part).get(metric, nan) for epoch in record.epochs]
                for record in self.records
            ]
        )

    def losses(self, name: str) -> NDArray[np.float64]:
        """Return the losses of every update, ``(runs, updates)``: of the runs that kept them."""
        kept = [run.losses[name] for run in self.runs.values() if len(run.losses.get(name, ()))]
        return np.array(kept) if kept else np.empty((0, 0))

    def diagnostics(self, name: str) -> tuple[list[str], np.ndarray]:
        """Return layer names, and the final value of a diagnostic, ``(runs, layers)``."""
        tables = [record.epochs[-1].diagnostics for record in self.records]
        layers = list(tables[0])
        return layers, np.array(
            [[getattr(table[layer], name) for layer in layers] for table in tables]
        )

    def courses(self, name: str) -> np.ndarray:
        """Return a diagnostic's mean over runs after each epoch, ``(epochs, layers)``."""
        courses = [
            [[getattr(layer, name) for layer in e.diagnostics.values()] for e in record.epochs]
            for record in self.records
        ]
        return np.asarray(np.array(courses).mean(0))


@dataclass(frozen=True)
class Experiment:
    """All settings of one network on one tier in one backend.

    Args:
        tier: The tier.
        model: The network.
        backend: The backend, with its engine if it has a choice of them.
        settings: The settings.
        task: What the network is for.
    """

    tier: str
    model: str
    backend: str
    settings: tuple[SettingResult, ...]
    task: Task

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The numbers that its runs end with."""
        return MEASURES[self.task]

    @property
    def name(self) -> str:
        """The experiment in a few words."""
        return f"{self.tier}/{self.model}, {self.backend}"

    @property
    def records(self) -> list[Record]:
        """The records of all complete runs."""
        return [record for result in self.settings for record in result.records]

    @property
    def complete(self) -> tuple[SettingResult, ...]:
        """The settings that have at least one complete run."""
        return tuple(result for result in self.settings if result.runs)


def gather(runs: Sequence[Run]) -> list[Experiment]:
    """Group runs into experiments, settings in the order of ``SETTINGS``.

    Raises:
        SpecError: Two runs have the same setting, seed and backend, or recipes differ in more
            than what an experiment compares.
    """
    grouped: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        recipe = run.record.recipe
        grouped[recipe.tier, recipe.model, run.record.framework].append(run)
    return [
        Experiment(*key, _settings(group), task_of(group[0].record.recipe))
        for key, group in grouped.items()
    ]


def _settings(runs: list[Run]) -> tuple[SettingResult, ...]:
    by_setting: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in runs:
        record = run.record
        _require_comparable(runs[0].record, record)
        if record.seed in by_setting[record.recipe.setting]:
            raise SpecError(f"Expected each run once. Received: {record.name} twice")
        for earlier in by_setting[record.recipe.setting].values():
            _require_comparable(earlier.record, record)
        by_setting[record.recipe.setting][record.seed] = run
    order = [*SETTINGS, *sorted(set(by_setting) - set(SETTINGS))]
    return tuple(_result(name, by_setting[name]) for name in order if name in by_setting)


def _require_comparable(one: Record, other: Record) -> None:
    """Raise SpecError if recipes differ in more than their rules, or give two rules one name."""
    same_setting = one.recipe.setting == other.recipe.setting
    ours, theirs = (
        record.recipe.model_dump(exclude=None if same_setting else set(COMPARED))
        for record in (one, other)
    )
    if ours != theirs:
        fields = [f"{f}: {ours[f]!r} and {theirs[f]!r}" for f in ours if ours[f] != theirs[f]]
        raise SpecError(
            f"Expected runs that differ in {', '.join(COMPARED)} only. "
            f"Received: {', '.join(fields)} ({one.name}; {other.name})"
        )


def _result(setting: str, runs: dict[int, Run]) -> SettingResult:
    runs = dict(sorted(runs.items()))
    statuses = {seed: run.record.status for seed, run in runs.items()}
    return SettingResult(
        setting=setting,
        title=SETTINGS[setting].title if setting in SETTINGS else setting,
        runs={seed: run for seed, run in runs.items() if statuses[seed] == "complete"},
        diverged=tuple(seed for seed, status in statuses.items() if status == "diverged"),
        unfinished=tuple(
            seed for seed, status in statuses.items() if status in ("running", "stopped")
        ),
    )
