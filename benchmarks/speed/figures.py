"""The figures of a report on speed."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from antiparallel.benchmarks.report.looks import GRID, STYLE, Look, look, title
from antiparallel.benchmarks.speed.contender import PLAIN
from antiparallel.benchmarks.speed.growth import AXES, Growth
from antiparallel.benchmarks.speed.measure import Ratio
from antiparallel.benchmarks.speed.record import SpeedRecord
from antiparallel.benchmarks.speed.summary import Row, in_words, rows_of

CAPTIONS = {
    "speed": "Step time over plain backprop's: median of the ratios within rounds, and its 95 % "
    "interval. Gray: the same interval of the control, a second copy of plain backprop; ratios "
    "inside it are noise.",
    "growth": "Step time, and memory without the libraries' own, against width, depth and batch. "
    "In the legends the exponent of a power law, fitted by least squares on logarithms.",
}

_INCHES_A_LINE = 0.27
_MEBIBYTE = 2**20


def draw_speed(records: Sequence[SpeedRecord]) -> Figure:
    """Draw every contender's ratio, case by case.

    Args:
        records: At least one.
    """
    blocks = [(record, rows_of(record)[1:]) for record in records]
    lines = sum(1 + len(rows) for _, rows in blocks)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.5, 1.3 + _INCHES_A_LINE * lines), layout="constrained")
        axes = figure.subplots()
        top = 0
        for record, rows in blocks:
            _draw_block(axes, f"{record.framework}  {record.case.name}", rows, top)
            top += 1 + len(rows)
        axes.axvline(1, color="#555555", lw=1, zorder=1)
        axes.set_ylim(top - 0.3, -0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=GRID)
        axes.set_axisbelow(True)
        axes.set_xlabel("Step time / plain backprop's")
        title(figure, "Median of ratios within rounds, 95 % interval; gray: the control's interval")
    return figure


def draw_growth(grown: Sequence[Growth]) -> Figure:
    """Draw how time and memory grow, a row of panels for each of them and framework.

    Args:
        grown: At least one.
    """
    frameworks = sorted({one.framework for one in grown})
    quantities = ["seconds", *(["memory"] if any(one.memory for one in grown) else [])]
    axes_shown = [axis for axis in AXES if any(one.axis == axis for one in grown)]
    panels = [(framework, quantity) for framework in frameworks for quantity in quantities]
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(1.2 + 3.4 * len(axes_shown), 0.5 + 2.8 * len(panels)), layout="constrained"
        )
        grid = figure.subplots(len(panels), len(axes_shown), squeeze=False)
        for (framework, quantity), row in zip(panels, grid, strict=True):
            for axis, axes in zip(axes_shown, row, strict=True):
                drawn = [one for one in grown if (one.framework, one.axis) == (framework, axis)]
                _draw_growth(axes, drawn, quantity)
                axes.set_xlabel(axis.capitalize())
            unit = "step (ms)" if quantity == "seconds" else "memory (MiB)"
            row[0].set_ylabel(f"{framework}: {unit}")
        title(figure, "How a step's time and memory grow")
    return figure


def _draw_block(axes: Axes, name: str, rows: Sequence[Row], top: int) -> None:
    """Draw a case's ratios below its name."""
    control = rows[0].control if rows else None
    margin = axes.get_yaxis_transform()
    axes.text(0, top, name, transform=margin, va="center", fontweight="bold", fontsize=9)
    if control is not None and isfinite(control.high):
        bottom, upper = top + len(rows) + 0.45, top + 0.55
        axes.fill_betweenx([upper, bottom], control.low, control.high, color="#d0d0d0", lw=0)
    for number, row in enumerate(rows, top + 1):
        color, filled = _look_of(row.name).color, ":" not in row.name
        axes.errorbar(
            row.ratio.median,
            number,
            xerr=_reach(row.ratio),
            fmt=_look_of(row.name).marker,
            color=color,
            mfc=color if filled else "white",
            ms=5,
            lw=1.6,
            capsize=3,
        )
        text: dict[str, Any] = {"va": "center", "color": color, "fontsize": 9, "clip_on": False}
        axes.text(-0.01, number, row.name, transform=margin, ha="right", **text)
        axes.text(1.01, number, in_words(row.ratio), transform=margin, ha="left", **text)


def _reach(ratio: Ratio) -> list[list[float]] | None:
    """Return how far an interval reaches to either side, None if there is none."""
    if not isfinite(ratio.high):
        return None
    return [[ratio.median - ratio.low], [ratio.high - ratio.median]]


def _draw_growth(axes: Axes, drawn: Sequence[Growth], quantity: str) -> None:
    """Draw a line for each contender, on logarithmic scales."""
    scale = 1000 if quantity == "seconds" else 1 / _MEBIBYTE
    for one in drawn:
        values = getattr(one, quantity)
        if not values:
            continue
        style = _look_of(one.name)
        exponent = one.exponent(values)
        axes.plot(
            one.sizes,
            [scale * value for value in values],
            style.dashes,
            marker=style.marker,
            color=style.color,
            mfc=style.color if ":" not in one.name else "white",
            ms=4,
            lw=1.5,
            label=f"{one.name}: exponent {exponent:.2f}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    if drawn:
        axes.set_title(f"with {drawn[0].fixed}", fontsize=9)
        sizes = drawn[0].sizes
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.legend(fontsize=8, frameon=False)
    axes.grid(color=GRID)


def _look_of(name: str) -> Look:
    """Return a contender's look: a peer's is its rule's."""
    return look("bp" if name == PLAIN else name.rpartition(":")[2])
