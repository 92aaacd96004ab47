"""What a record's timings come to: the numbers of its table."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from antiparallel.benchmarks.speed.contender import PLAIN
from antiparallel.benchmarks.speed.measure import CONTROL, Ratio, Split
from antiparallel.benchmarks.speed.memory import Amount
from antiparallel.benchmarks.speed.record import SpeedRecord


@dataclass(frozen=True)
class Row:
    """A contender's numbers in one case.

    Args:
        name: Its name.
        ratio: Its step's time over plain backprop's.
        control: The control's step's time over plain backprop's, in the same case.
        seconds: Of its step, the median.
        examples: Pictures a second.
        split: The parts of its step.
        memory: Bytes that it takes, the median; None where that was not measured.
        memory_ratio: Over what plain backprop takes; None where that was nothing to be seen.
    """

    name: str
    ratio: Ratio
    control: Ratio
    seconds: float
    examples: float
    split: Split
    memory: float | None
    memory_ratio: float | None


def rows_of(record: SpeedRecord) -> list[Row]:
    """Return a row for every contender but the control, plain backprop first."""
    step = record.timings.step
    control = Ratio.of(step[CONTROL], step[PLAIN])
    plain = own_memory(record.memory.get(PLAIN, ()))
    rows = []
    for name in step:
        if name == CONTROL:
            continue
        seconds = float(np.median(step[name]))
        memory = own_memory(record.memory.get(name, ()))
        rows.append(
            Row(
                name,
                Ratio.of(step[name], step[PLAIN]),
                control,
                seconds,
                record.case.batch / seconds,
                Split.of(record.timings, name),
                memory,
                memory / plain if memory is not None and plain else None,
            )
        )
    return rows


def own_memory(amounts: Sequence[Amount]) -> float | None:
    """Return the median of what a contender itself takes, in bytes; None where there is none."""
    return float(np.median([amount.own for amount in amounts])) if amounts else None


def in_words(ratio: Ratio) -> str:
    """Return a ratio and its interval as text."""
    if not isfinite(ratio.high):
        return f"{ratio.median:.3f}, no interval"
    return f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def cells_of(row: Row) -> tuple[str, ...]:
    """Return a row's numbers as text, in the order of ``HEADS``."""
    return (
        "1" if row.name == PLAIN else in_words(row.ratio),
        str(row.ratio.n),
        in_words(row.control),
        "not measured" if row.memory_ratio is None else f"{row.memory_ratio:.3f}",
        _three_digits(row.examples),
        " / ".join(_three_digits(1000 * part) for part in row.split),
    )


HEADS = (
    "step / plain",
    "n",
    "control / plain",
    "memory / plain",
    "pictures / s",
    "forward / backward / update, ms",
)
"""What the cells of a row are."""

BRIEF = ("step / plain", "memory / plain", "pictures / s")
"""Those that a terminal has room for beside each other."""


def _three_digits(value: float) -> str:
    return np.format_float_positional(value, 3, fractional=False, trim="-")
