"""The figures of a report on speed."""

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from antiparallel.benchmarks.report.looks import GRID, STYLE, Look, look, title
from antiparallel.benchmarks.speed.contender import PLAIN
from antiparallel.benchmarks.speed.growth import AXES, Growth, power
from antiparallel.benchmarks.speed.measure import Ratio
from antiparallel.benchmarks.speed.record import SpeedRecord
from antiparallel.benchmarks.speed.summary import Row, rows_of

CAPTIONS = {
    "speed": "Step time over plain backprop's: median of the ratios within rounds, and its 95 % "
    "interval. Gray: the same interval of the control, a second copy of plain backprop; ratios "
    "inside it are noise.",
    "growth": "Step time, its ratio to plain backprop's with the 95 % interval, and memory without "
    "the libraries' own, against a convnet's width, depth and batch. In the legends the power of "
    "the size that it grows with, by least squares on logarithms.",
}

_NOISE = "#d0d0d0"
_INCHES_A_LINE = 0.17
_LINES_BETWEEN = 1.2
_LINES_A_PANEL = 70


class _Block(NamedTuple):
    """What is drawn of a record."""

    case: str
    framework: str
    rows: list[Row]


def draw_speed(records: Sequence[SpeedRecord]) -> Figure:
    """Draw every contender's ratio on a line of its own, the lines of a record together.

    Args:
        records: At least one.
    """
    blocks = [_Block(record.case.name, record.framework, rows_of(record)[1:]) for record in records]
    lines = [len(block.rows) + _LINES_BETWEEN for block in blocks]
    panels = _panels(blocks, -(-int(sum(lines)) // _LINES_A_PANEL))
    tallest = max(sum(len(block.rows) + _LINES_BETWEEN for block in panel) for panel in panels)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(6.2 * len(panels), 1.5 + _INCHES_A_LINE * tallest), layout="constrained"
        )
        axes = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
        for panel, place in zip(panels, axes, strict=True):
            _draw_panel(place, panel, tallest)
        names = dict.fromkeys(row.name for block in blocks for row in block.rows)
        figure.legend(
            [_key(name) for name in names] + [Patch(color=_NOISE)],
            [*names, "control"],
            loc="outside upper center",
            ncols=len(names) + 1,
            frameon=False,
        )
    return figure


def draw_growth(grown: Sequence[Growth]) -> Figure:
    """Draw how time, its ratio to plain backprop's and memory grow, a row of panels for each.

    Args:
        grown: At least one.
    """
    frameworks = sorted({one.framework for one in grown})
    along = [axis for axis in AXES if any(one.axis == axis for one in grown)]
    rows = [(framework, draw) for framework in frameworks for draw in _QUANTITIES]
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(1.2 + 3.6 * len(along), 0.5 + 2.7 * len(rows)), layout="constrained"
        )
        grid = figure.subplots(len(rows), len(along), squeeze=False)
        for (framework, draw), panels in zip(rows, grid, strict=True):
            for axis, axes in zip(along, panels, strict=True):
                lines = [one for one in grown if (one.framework, one.axis) == (framework, axis)]
                if lines:
                    draw(axes, lines)
                    _name_sizes(axes, lines[0])
            panels[0].set_ylabel(f"{framework}: {_QUANTITIES[draw]}")
        title(figure, "How a step's time and memory grow")
    return figure


def _panels(blocks: Sequence[_Block], most: int) -> list[list[_Block]]:
    """Share blocks out, in their order, between panels of much the same height."""
    lines = np.cumsum([len(block.rows) + _LINES_BETWEEN for block in blocks])
    places = np.minimum((lines - lines[0]) * most // lines[-1], most - 1)
    return [
        [block for block, place in zip(blocks, places, strict=True) if place == number]
        for number in sorted(set(places))
    ]


def _draw_panel(axes: Axes, blocks: Sequence[_Block], lines: float) -> None:
    """Draw blocks below each other, and name them at the left."""
    axes.axvline(1, color="#555555", lw=1, zorder=1.5)
    axes.set_ylim(lines - _LINES_BETWEEN / 2, -_LINES_BETWEEN / 2 - 0.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.margins(x=0.12)
    axes.set_xlabel("Step time / plain backprop's")
    middles, top = [], 0.0
    for block in blocks:
        _draw_block(axes, block, top)
        middles.append(top + (len(block.rows) - 1) / 2)
        top += len(block.rows) + _LINES_BETWEEN
    names = [f"{block.case}\n{block.framework}" for block in blocks]
    axes.set_yticks(middles, names, fontsize=8, linespacing=1.1)


def _draw_block(axes: Axes, block: _Block, top: float) -> None:
    """Draw the ratios of a record, each contender's on its line."""
    control = block.rows[0].control
    if isfinite(control.high):
        ends = [top - 0.6, top + len(block.rows) - 0.4]
        axes.fill_betweenx(ends, control.low, control.high, color=_NOISE, lw=0, label="control")
    for number, row in enumerate(block.rows):
        ratio, style = row.ratio, _look_of(row.name)
        axes.errorbar(
            ratio.median,
            top + number,
            xerr=_reach(ratio),
            fmt=style.marker,
            color=style.color,
            mfc=_filling(row.name),
            ms=4.5,
            lw=1.4,
            capsize=2.5,
        )
        axes.annotate(
            f"{ratio.median:.3f}",
            (ratio.high if isfinite(ratio.high) else ratio.median, top + number),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=style.color,
            fontsize=7,
        )


def _key(name: str) -> Line2D:
    """Return what stands for a contender in the legend."""
    style = _look_of(name)
    return Line2D([], [], color=style.color, marker=style.marker, mfc=_filling(name), lw=1.4, ms=5)


def _reach(ratio: Ratio) -> list[list[float]] | None:
    """Return how far an interval reaches to either side, None if there is none."""
    if not isfinite(ratio.high):
        return None
    return [[ratio.median - ratio.low], [ratio.high - ratio.median]]


def _draw_seconds(axes: Axes, lines: Sequence[Growth]) -> None:
    for one in lines:
        milliseconds = [1000 * seconds for seconds in one.seconds]
        _draw_line(axes, one, milliseconds, f"{one.name}: {power(one.exponent(one.seconds))}")
    _scale_by_powers(axes)


def _draw_ratios(axes: Axes, lines: Sequence[Growth]) -> None:
    axes.axhline(1, color="#555555", lw=1)
    for one in lines:
        if one.name != PLAIN:
            _draw_line(axes, one, [ratio.median for ratio in one.ratios], one.name)
            if all(isfinite(ratio.high) for ratio in one.ratios):
                low, high = ([ratio[end] for ratio in one.ratios] for end in (1, 2))
                axes.fill_between(one.sizes, low, high, color=_look_of(one.name).color, alpha=0.15)


def _draw_memory(axes: Axes, lines: Sequence[Growth]) -> None:
    for one in lines:
        if one.memory:
            mebibytes = [amount / 2**20 for amount in one.memory]
            _draw_line(axes, one, mebibytes, f"{one.name}: {power(one.exponent(one.memory))}")
    _scale_by_powers(axes)


_QUANTITIES = {
    _draw_seconds: "step, ms",
    _draw_ratios: "step / plain",
    _draw_memory: "memory, MiB",
}
"""A row of panels each, and what it is called."""


def _draw_line(axes: Axes, one: Growth, values: Sequence[float], label: str) -> None:
    style = _look_of(one.name)
    axes.plot(
        one.sizes,
        values,
        style.dashes,
        marker=style.marker,
        color=style.color,
        mfc=_filling(one.name),
        ms=4,
        lw=1.5,
        label=label,
    )


def _scale_by_powers(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _name_sizes(axes: Axes, one: Growth) -> None:
    """Write what grows, and what does not; name the lines."""
    axes.set_xscale("log")
    axes.set_xticks(one.sizes, [str(size) for size in one.sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(one.axis.capitalize())
    axes.set_title(f"with {one.fixed}", fontsize=9)
    axes.grid(color=GRID)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def _filling(name: str) -> str:
    """Return the colour inside a contender's marker: a peer's is hollow."""
    return "white" if ":" in name else _look_of(name).color


def _look_of(name: str) -> Look:
    """Return a contender's look: a peer's is its rule's."""
    return look("bp" if name == PLAIN else name.rpartition(":")[2])
