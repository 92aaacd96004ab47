"""Records gathered into what a report shows: settings, each with its seeds."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np

from antiparallel.benchmarks.recipes import COMPARED, SETTINGS
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.run_folder import RunFolder
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
    runs: dict[int, Record]
    diverged: tuple[int, ...]
    unfinished: tuple[int, ...]

    def final_errors(self, part: str = "validation", metric: str = "error") -> dict[int, float]:
        """Return the last epoch's top-1 error, or ``"top5_error"``, in percent, by seed."""
        metrics = {seed: getattr(run.epochs[-1], part) for seed, run in self.runs.items()}
        return {seed: 100 * found[metric] for seed, found in metrics.items() if metric in found}

    def error(self, part: str = "validation", metric: str = "error") -> Spread:
        """Return the last epoch's top-1 error, or ``"top5_error"``, in percent."""
        return Spread.of(list(self.final_errors(part, metric).values()))

    def seconds(self) -> Spread:
        """Return the time that a run took."""
        return Spread.of([run.seconds for run in self.runs.values()])

    def curves(self, part: str = "validation", metric: str = "error") -> np.ndarray:
        """Return errors in percent, ``(runs, epochs)``; nan where a record has none."""
        return np.array(
            [
                [100 * getattr(epoch, part).get(metric, nan) for epoch in run.epochs]
                for run in self.runs.values()
            ]
        )

    def diagnostics(self, name: str) -> tuple[list[str], np.ndarray]:
        """Return layer names, and the final value of a diagnostic, ``(runs, layers)``."""
        tables = [run.epochs[-1].diagnostics for run in self.runs.values()]
        layers = list(tables[0])
        return layers, np.array(
            [[getattr(table[layer], name) for layer in layers] for table in tables]
        )

    def courses(self, name: str) -> np.ndarray:
        """Return a diagnostic's mean over runs after each epoch, ``(epochs, layers)``."""
        courses = [
            [[getattr(layer, name) for layer in epoch.diagnostics.values()] for epoch in run.epochs]
            for run in self.runs.values()
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
    """

    tier: str
    model: str
    backend: str
    settings: tuple[SettingResult, ...]

    @property
    def name(self) -> str:
        """The experiment in a few words."""
        return f"{self.tier}/{self.model}, {self.backend}"

    @property
    def records(self) -> list[Record]:
        """All complete runs."""
        return [run for result in self.settings for run in result.runs.values()]

    @property
    def complete(self) -> tuple[SettingResult, ...]:
        """The settings that have at least one complete run."""
        return tuple(result for result in self.settings if result.runs)


def find_records(paths: Iterable[Path]) -> list[Record]:
    """Read the records of run folders, and of all runs below other folders.

    Raises:
        SpecError: A path is neither a run nor has runs below it, or a record cannot be read.
    """
    found: dict[Path, Record] = {}
    for path in paths:
        folders = sorted(record.parent for record in path.rglob("record.json"))
        if not folders:
            raise SpecError(
                f"Expected a run's folder, or one with runs below it. Received: {str(path)!r}"
            )
        found |= {folder.resolve(): RunFolder(folder).read_record() for folder in folders}
    return list(found.values())


def gather(records: Sequence[Record]) -> list[Experiment]:
    """Group records into experiments, settings in the order of ``SETTINGS``.

    Raises:
        SpecError: Two runs have the same setting, seed and backend, or recipes differ in more
            than what an experiment compares.
    """
    grouped: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        grouped[record.recipe.tier, record.recipe.model, record.framework].append(record)
    return [Experiment(*key, _settings(group)) for key, group in grouped.items()]


def _settings(records: list[Record]) -> tuple[SettingResult, ...]:
    by_setting: dict[str, dict[int, Record]] = defaultdict(dict)
    for record in records:
        _require_comparable(records[0], record)
        if record.seed in by_setting[record.recipe.setting]:
            raise SpecError(f"Expected each run once. Received: {record.name} twice")
        for earlier in by_setting[record.recipe.setting].values():
            _require_comparable(earlier, record)
        by_setting[record.recipe.setting][record.seed] = record
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


def _result(setting: str, runs: dict[int, Record]) -> SettingResult:
    runs = dict(sorted(runs.items()))
    return SettingResult(
        setting=setting,
        title=SETTINGS[setting].title if setting in SETTINGS else setting,
        runs={seed: run for seed, run in runs.items() if run.status == "complete"},
        diverged=tuple(seed for seed, run in runs.items() if run.status == "diverged"),
        unfinished=tuple(
            seed for seed, run in runs.items() if run.status in ("running", "stopped")
        ),
    )
