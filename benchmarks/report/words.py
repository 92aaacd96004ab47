"""Numbers as a report and the terminal write them."""

from math import isfinite, isnan
from typing import Any

from antiparallel.benchmarks.report.claims import Judgement
from antiparallel.benchmarks.report.comparison import Row
from antiparallel.benchmarks.report.departures import Departure
from antiparallel.benchmarks.report.measures import Measure
from antiparallel.benchmarks.report.published import PAPERS_TIER, Cell, Reference
from antiparallel.benchmarks.report.results import Experiment, SettingResult, Spread

FOR_TEMPLATES = (
    "number",
    "duration",
    "note",
    "interval",
    "judged_over",
    "difference",
    "pooled",
    "published",
    "against",
    "settings_in_words",
)


_DIGITS = {"points": 2, "nats": 3, "percent": 1}
"""After the point, of what claims are judged by."""


def number(spread: Spread, measure: Measure) -> str:
    """Return a measure's spread as text."""
    if not spread.n:
        return "-"
    digits = measure.digits
    deviation = f" ± {spread.deviation:.{digits}f}" if spread.n > 1 else ""
    return f"{spread.mean:.{digits}f}{deviation}"


def duration(spread: Spread) -> str:
    """Return a mean of seconds as text."""
    return f"{spread.mean:.1f}" if spread.n else "-"


def note(result: SettingResult) -> str:
    """Return what a reader must know about runs that are not counted."""
    parts = (("diverged", result.diverged), ("not finished", result.unfinished))
    return "; ".join(f"{word}: seed {', '.join(map(str, seeds))}" for word, seeds in parts if seeds)


def interval(judgement: Judgement) -> str:
    """Return a judgement's mean and interval as text."""
    if isnan(judgement.mean):
        return "-"
    digits = _DIGITS[judgement.unit]
    mean, low, high = (
        f"{end:+.{digits}f}" for end in (judgement.mean, judgement.low, judgement.high)
    )
    if not isfinite(judgement.low):
        return f"{mean} {judgement.unit}, no interval"
    return f"{mean} [{low}, {high}] {judgement.unit}"


def judged_over(judgement: Judgement) -> str:
    """Return what a judgement's interval is over as text."""
    if judgement.over == "seeds":
        return str(len(judgement.seeds))
    return f"{judgement.n} {judgement.over}" if judgement.n else "1"


def difference(row: Row) -> str:
    """Return a comparison's difference as text."""
    return f"{row.difference:+.2f}"


def pooled(row: Row) -> str:
    """Return a comparison's spread as text."""
    return f"{row.spread:.2f}" if isfinite(row.spread) else "-"


def published(reference: Reference, cell: Cell) -> str:
    """Return a reference's number as text, or why it is not there."""
    return reference.absent if cell.percent is None else f"{cell.percent:.2f}"


def against(experiment: Experiment, cell: Cell) -> str:
    """Return the difference to a published number as text, or why there is none."""
    if cell.difference is not None:
        return f"{cell.difference:+.2f}"
    return "-" if experiment.tier == PAPERS_TIER[experiment.task] else "another experiment"


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
