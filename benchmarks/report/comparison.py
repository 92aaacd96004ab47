"""The same experiment in two backends, setting by setting."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan, sqrt
from typing import Literal

from antiparallel.benchmarks.recipes import COMPARED
from antiparallel.benchmarks.report.measures import Measure, headline
from antiparallel.benchmarks.report.results import Experiment, SettingResult, Spread

Agreement = Literal["within", "outside", "undecided"]

AGREEMENT = (
    "Both backends begin with the same weights and see the same pictures in the same order, so "
    "they differ by rounding, which training enlarges. Difference: the second mean minus the "
    "first. It is within seed spread if it is no larger than the pooled sample standard deviation "
    "over seeds, the root of the mean of both variances; undecided with fewer than two seeds."
)


@dataclass(frozen=True)
class Row:
    """One setting in both backends, over the seeds that are complete in both.

    Args:
        setting: Its name.
        title: Its name in full.
        first: What the runs of the first backend come to, by the comparison's measure.
        second: Those of the second.
    """

    setting: str
    title: str
    first: Spread
    second: Spread

    @property
    def difference(self) -> float:
        """The second mean minus the first."""
        return self.second.mean - self.first.mean

    @property
    def spread(self) -> float:
        """The pooled sample standard deviation over seeds; nan with fewer than two."""
        if self.first.n < 2:
            return nan
        return sqrt((self.first.deviation**2 + self.second.deviation**2) / 2)

    @property
    def agreement(self) -> Agreement:
        """Whether the difference is within seed spread."""
        if self.first.n < 2:
            return "undecided"
        return "within" if abs(self.difference) <= self.spread else "outside"


@dataclass(frozen=True)
class Comparison:
    """Two backends on one experiment."""

    first: Experiment
    second: Experiment
    rows: tuple[Row, ...]

    @property
    def measure(self) -> Measure:
        """The number that is compared."""
        return headline(self.first.task)

    @property
    def name(self) -> str:
        """The comparison in a few words."""
        return (
            f"{self.first.tier}/{self.first.model}, {self.first.backend} and {self.second.backend}"
        )


def compare(experiments: Sequence[Experiment]) -> list[Comparison]:
    """Compare every two backends that ran the same recipes of one experiment."""
    return [
        Comparison(first, second, rows)
        for first, second in combinations(experiments, 2)
        if _same_recipes(first, second) and (rows := _rows(first, second))
    ]


def _same_recipes(first: Experiment, second: Experiment) -> bool:
    if not (first.records and second.records):
        return False
    ours, theirs = (e.records[0].recipe.model_dump(exclude=set(COMPARED)) for e in (first, second))
    return bool(ours == theirs)


def _rows(first: Experiment, second: Experiment) -> tuple[Row, ...]:
    measure = headline(first.task)
    others = {result.setting: result for result in second.complete}
    return tuple(
        row
        for result in first.complete
        if result.setting in others and (row := _row(result, others[result.setting], measure))
    )


def _row(first: SettingResult, second: SettingResult, measure: Measure) -> Row | None:
    ours, theirs = first.by_seed(measure), second.by_seed(measure)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    one, other = (result.runs[seeds[0]].record.recipe for result in (first, second))
    if one != other:
        return None
    spreads = (Spread.of([found[seed] for seed in seeds]) for found in (ours, theirs))
    return Row(first.setting, first.title, *spreads)
