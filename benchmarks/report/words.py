"""Numbers as a report and the terminal write them."""

from math import isfinite
from typing import Any

from antiparallel.benchmarks.report.claims import Judgement
from antiparallel.benchmarks.report.comparison import Row
from antiparallel.benchmarks.report.departures import Departure
from antiparallel.benchmarks.report.published import REFERENCES, Cell
from antiparallel.benchmarks.report.results import Experiment, SettingResult, Spread

FOR_TEMPLATES = (
    "percent",
    "duration",
    "note",
    "points",
    "judged_over",
    "difference",
    "pooled",
    "published",
    "against",
    "settings_in_words",
)


def percent(spread: Spread) -> str:
    """Return a spread of percentages as text."""
    if not spread.n:
        return "-"
    return f"{spread.mean:.2f}" + (f" ± {spread.deviation:.2f}" if spread.n > 1 else "")


def duration(spread: Spread) -> str:
    """Return a mean of seconds as text."""
    return f"{spread.mean:.1f}" if spread.n else "-"


def note(result: SettingResult) -> str:
    """Return what a reader must know about runs that are not counted."""
    parts = (("diverged", result.diverged), ("not finished", result.unfinished))
    return "; ".join(f"{word}: seed {', '.join(map(str, seeds))}" for word, seeds in parts if seeds)


def points(judgement: Judgement) -> str:
    """Return a judgement's mean and interval as text."""
    if not judgement.seeds:
        return "no seed has all the runs"
    if not isfinite(judgement.low):
        return f"{judgement.mean:+.2f}, no interval"
    return f"{judgement.mean:+.2f} [{judgement.low:+.2f}, {judgement.high:+.2f}]"


def judged_over(judgement: Judgement) -> str:
    """Return what a judgement's interval is over as text."""
    if judgement.pictures:
        return f"{judgement.pictures} pictures"
    return str(len(judgement.seeds))


def difference(row: Row) -> str:
    """Return a comparison's difference as text."""
    return f"{row.difference:+.2f}"


def pooled(row: Row) -> str:
    """Return a comparison's spread as text."""
    return f"{row.spread:.2f}" if isfinite(row.spread) else "-"


def published(number: int, cell: Cell) -> str:
    """Return a reference's error as text, or why it is not there."""
    return REFERENCES[number].absent if cell.percent is None else f"{cell.percent:.2f}"


def against(experiment: Experiment, cell: Cell) -> str:
    """Return the difference to a published error as text, or why there is none."""
    if cell.difference is not None:
        return f"{cell.difference:+.2f}"
    return "-" if experiment.tier == "imagenet" else "another experiment"


def settings_in_words(experiment: Experiment, departure: Departure) -> str:
    """Return the settings that a departure concerns as text."""
    every = departure.settings == tuple(result.setting for result in experiment.complete)
    return "all" if every else ", ".join(departure.settings)


def without_nan(value: Any) -> Any:
    """Return a tree of numbers with None where one does not exist: JSON has no other word."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
