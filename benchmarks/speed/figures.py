"""The figures of a report on speed."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from antiparallel.benchmarks.report.looks import GRID, STYLE, Look, look, title
from antiparallel.benchmarks.speed.case import Case
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

_INCHES_A_LINE = 0.27


def draw_speed(records: Sequence[SpeedRecord]) -> Figure:
    """Draw every contender's ratio: a column for each framework, a block of lines for each case.

    Args:
        records: At least one.
    """
    blocks: dict[Case, dict[str, list[Row]]] = {}
    for record in records:
        blocks.setdefault(record.case, {})[record.framework] = rows_of(record)[1:]
    frameworks = sorted({record.framework for record in records})
    names = {
        case: list(dict.fromkeys(row.name for rows in block.values() for row in rows))
        for case, block in blocks.items()
    }
    lines = sum(1 + len(rules) for rules in names.values())
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(2.2 + 3.6 * len(frameworks), 1.4 + _INCHES_A_LINE * lines),
            layout="constrained",
        )
        columns = figure.subplots(1, len(frameworks), sharex=True, squeeze=False)[0]
        for framework, axes in zip(frameworks, columns, strict=True):
            _draw_frame(axes, framework, lines)
            top = 0
            for case, block in blocks.items():
                if framework in block:
                    _draw_block(axes, block[framework], names[case], top)
                top += 1 + len(names[case])
        _name_lines(columns[0], names)
        title(figure, "Median of ratios within rounds, 95 % interval; gray: the control's interval")
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


def _draw_frame(axes: Axes, framework: str, lines: int) -> None:
    """Draw what a column has besides its ratios."""
    axes.set_title(framework)
    axes.axvline(1, color="#555555", lw=1, zorder=1.5)
    axes.set_ylim(lines - 0.3, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.margins(x=0.12)
    axes.set_xlabel("Step time / plain backprop's")


def _name_lines(axes: Axes, names: Mapping[Case, Sequence[str]]) -> None:
    """Write at the left what each line is."""
    top = 0
    for case, rules in names.items():
        left: dict[str, Any] = {
            "xy": (0, top), "xycoords": axes.get_yaxis_transform(), "va": "center", "ha": "right",
            "textcoords": "offset points", "fontsize": 9, "annotation_clip": False,
        }  # fmt: skip
        axes.annotate(case.name, xytext=(-6, 0), fontweight="bold", **left)
        for number, rule in enumerate(rules, top + 1):
            at = left | {"xy": (0, number)}
            axes.annotate(rule, xytext=(-6, 0), color=_look_of(rule).color, **at)
        top += 1 + len(rules)


def _draw_block(axes: Axes, rows: Sequence[Row], names: Sequence[str], top: int) -> None:
    """Draw the ratios of a case, each on its contender's line."""
    control = rows[0].control
    if isfinite(control.high):
        ends = [top + 0.5, top + len(names) + 0.5]
        axes.fill_betweenx(ends, control.low, control.high, color="#d0d0d0", lw=0, label="control")
    for row in rows:
        ratio, style = row.ratio, _look_of(row.name)
        number = top + 1 + names.index(row.name)
        axes.errorbar(
            ratio.median,
            number,
            xerr=_reach(ratio),
            fmt=style.marker,
            color=style.color,
            mfc=_filling(row.name),
            ms=5,
            lw=1.6,
            capsize=3,
        )
        axes.annotate(
            f"{ratio.median:.3f}",
            (ratio.high if isfinite(ratio.high) else ratio.median, number),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=style.color,
            fontsize=8,
        )


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
