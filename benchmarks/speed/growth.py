"""How a ``convnet``'s step time and memory grow with its width, its depth and the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from antiparallel.benchmarks.speed.measure import Ratio
from antiparallel.benchmarks.speed.record import SpeedRecord
from antiparallel.benchmarks.speed.summary import rows_of

AXES = ("width", "depth", "batch")


@dataclass(frozen=True)
class Growth:
    """One contender's numbers at several sizes.

    Args:
        framework: See ``SpeedRecord.framework``.
        axis: One of ``AXES``: what grows.
        fixed: All else, in words.
        name: The contender's name.
        sizes: Widths, depths or batches, the smallest first.
        seconds: Of a step, the median, at each size.
        ratios: Of its step's time and plain backprop's, at each size.
        memory: Bytes at each size; nothing where it was not measured at all of them.
    """

    framework: str
    axis: str
    fixed: str
    name: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    ratios: tuple[Ratio, ...]
    memory: tuple[float, ...]

    def exponent(self, values: Sequence[float]) -> float:
        """Return the power of the size that values grow with, by least squares on logarithms."""
        return float(np.polyfit(np.log(self.sizes), np.log(values), 1)[0])


def power(exponent: float) -> str:
    """Return an exponent as text."""
    return f"size^{exponent:.2f}"


def growth_of(records: Sequence[SpeedRecord]) -> list[Growth]:
    """Return how each contender grows along each axis.

    Of several series of records along an axis, alike in all else, the longest is taken.

    Args:
        records: Of any cases; only a ``convnet``'s count.
    """
    found = []
    for framework in dict.fromkeys(record.framework for record in records):
        ours = [
            record
            for record in records
            if (record.framework, record.case.model) == (framework, "convnet")
        ]
        for axis in AXES:
            found += _along(axis, _longest(ours, axis))
    return found


def _longest(records: Sequence[SpeedRecord], axis: str) -> list[SpeedRecord]:
    """Return the longest series along an axis, nothing if none has two sizes."""
    series: dict[Any, list[SpeedRecord]] = {}
    for record in records:
        series.setdefault(record.case.model_copy(update={axis: 1}), []).append(record)
    longest = max(series.values(), key=len, default=[])
    return sorted(longest, key=lambda record: _size(record, axis)) if len(longest) > 1 else []


def _size(record: SpeedRecord, axis: str) -> int:
    return int(getattr(record.case, axis))


def _along(axis: str, series: Sequence[SpeedRecord]) -> list[Growth]:
    if not series:
        return []
    sizes = tuple(_size(record, axis) for record in series)
    tables = [{row.name: row for row in rows_of(record)} for record in series]
    case = series[0].case
    others = [f"{other} {_size(series[0], other)}" for other in AXES if other != axis]
    grown = []
    for name in tables[0]:
        if not all(name in table for table in tables):
            continue
        memory = tuple(table[name].memory or 0 for table in tables)
        grown.append(
            Growth(
                series[0].framework,
                axis,
                ", ".join([*others, f"{case.pixels} px", *case.remarks]),
                name,
                sizes,
                tuple(table[name].seconds for table in tables),
                tuple(table[name].ratio for table in tables),
                memory if all(amount > 0 for amount in memory) else (),
            )
        )
    return grown
