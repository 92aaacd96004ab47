"""The figures of detectors: losses of every update, average precision on the way."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from antiparallel.benchmarks.report.comparison import Comparison
from antiparallel.benchmarks.report.looks import (
    COMPARED,
    GRID,
    Look,
    label_ends,
    look,
    seeds,
    title,
)
from antiparallel.benchmarks.report.measures import last_tenth
from antiparallel.benchmarks.report.published import PAPERS_TIER, references
from antiparallel.benchmarks.report.results import Experiment, SettingResult

_LOSSES = {"classification": "Classification loss", "regression": "Box loss", "loss": "Total loss"}
_PRECISIONS = {"ap": "AP (%)", "ap50": "AP50 (%)", "ap75": "AP75 (%)"}
_WINDOW = 50
"""Of how many windows a smoothed curve is made."""
_NARROWEST = 11
"""Updates that a window has at least."""
_CORNERS = 500
"""Places at which a smoothed curve is drawn, at most."""
_SHOWN = 99
"""Percent of the raw losses that a panel has room for."""

_SMOOTH = (
    "Thick: running mean over a fiftieth of the iterations, 11 at least, centred; mean over seeds, "
    "band from the lowest seed to the highest."
)

CAPTIONS = {
    "losses": "In the form of the paper's Figure 2: losses of every training batch before its "
    f"update, in nats. Thin: as they are, first seed; the highest one in a hundred may lie above. "
    f"{_SMOOTH} Numbers: mean of the last tenth. Dotted: the learning rate falls.",
    "precision": "Average precision on the evaluated pictures on the way. Line: mean over seeds. "
    "Band: from the worst seed to the best. Dotted, where it is the same data: published.",
    "comparison": "Smoothed training losses in both backends, a column for each setting. "
    f"{_SMOOTH} In titles the difference of final AP, the second backend's minus the first's.",
}


def draw_detectors(experiment: Experiment) -> dict[str, Figure]:
    """Draw an experiment's own figures.

    Args:
        experiment: Of detectors; at least one of its settings has a complete run.

    Returns:
        Figures by name: ``losses`` (the paper's Figure 2) where runs kept them, ``precision``.
    """
    figures = {"losses": _losses(experiment)} if _kept(experiment.complete) else {}
    return figures | {"precision": _precision(experiment)}


def compare_detectors(comparison: Comparison) -> Figure:
    """Draw both backends' smoothed losses: a row for each loss, a column for each setting."""
    rows = comparison.rows
    figure = Figure(figsize=(1.2 + 3.6 * max(len(rows), 2), 8), layout="constrained")
    panels = figure.subplots(len(_LOSSES), len(rows), sharex=True, sharey="row", squeeze=False)
    for experiment, drawn in zip((comparison.first, comparison.second), COMPARED, strict=True):
        results = {result.setting: result for result in experiment.complete}
        for line, (name, label) in zip(panels, _LOSSES.items(), strict=True):
            for axes, row in zip(line, rows, strict=True):
                _draw_smoothed(axes, results[row.setting].losses(name), drawn, experiment.backend)
                _finish(axes)
            line[0].set_ylabel(label)
    for line, name in zip(panels, _LOSSES, strict=True):
        both = [*comparison.first.complete, *comparison.second.complete]
        line[0].set_ylim(0, _top([smooth(one) for result in both for one in result.losses(name)]))
    for axes, row in zip(panels[0], rows, strict=True):
        axes.set_title(f"{row.setting}  {row.difference:+.2f} points")
    for axes in panels[-1]:
        axes.set_xlabel("Iteration")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    title(figure, f"{comparison.name}: training losses; in titles the difference of final AP")
    return figure


def smooth(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return running means over centred windows, which are cut off at both ends.

    Args:
        losses: ``(updates,)``.
    """
    half = max(_NARROWEST, len(losses) // _WINDOW) // 2
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    places = np.arange(len(losses))
    starts, ends = np.maximum(places - half, 0), np.minimum(places + half + 1, len(losses))
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _losses(experiment: Experiment) -> Figure:
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    kept = _kept(experiment.complete)
    for axes, (name, label) in zip(figure.subplots(1, len(_LOSSES)), _LOSSES.items(), strict=True):
        drawn = [(result, result.losses(name)) for result in kept if len(result.losses(name))]
        for result, losses in drawn:
            # As pixels in vector graphics too: they would have a million corners.
            axes.plot(
                np.arange(1, losses.shape[1] + 1),
                losses[0],
                color=look(result.setting).color,
                lw=0.4,
                alpha=0.25,
                rasterized=True,
            )
        ends = {}
        for result, losses in drawn:
            _draw_smoothed(axes, losses, look(result.setting), result.setting)
            final = float(np.mean([last_tenth(run).mean() for run in losses]))
            ends[result.setting] = (f"{result.setting}  {final:.3f}", final)
        axes.set_title(label)
        axes.set_xlabel("Iteration")
        _mark_drops(axes, experiment)
        _finish(axes)
        axes.set_ylim(0, _top([run for _, losses in drawn for run in losses]))
        label_ends(axes, ends)
    title(figure, f"{experiment.name}: training losses, n = {seeds(experiment)}")
    return figure


def _precision(experiment: Experiment) -> Figure:
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, len(_PRECISIONS))
    for axes, (name, label) in zip(panels, _PRECISIONS.items(), strict=True):
        ends = {}
        for result in experiment.complete:
            color, dashes, marker = look(result.setting)
            found = result.curves(name)
            places = _updates(result) * np.arange(1, found.shape[1] + 1)
            axes.plot(places, found.mean(0), dashes, color=color, lw=2, marker=marker, ms=4)
            axes.fill_between(places, found.min(0), found.max(0), color=color, alpha=0.15, lw=0)
            final = float(found.mean(0)[-1])
            if np.isfinite(final):
                ends[result.setting] = (f"{result.setting}  {final:.2f} %", final)
        if experiment.tier == PAPERS_TIER["detection"]:
            _mark_published(axes, name)
        axes.set_title(label)
        axes.set_xlabel("Iteration")
        _finish(axes)
        axes.set_xlim(left=0)
        axes.set_ylim(0, max(1.0, 1.08 * axes.get_ylim()[1]))
        label_ends(axes, ends)
    title(
        figure,
        f"{experiment.name}: mean (line) and range (band) over seeds, n = {seeds(experiment)}",
    )
    return figure


def _kept(results: Sequence[SettingResult]) -> list[SettingResult]:
    """Return the settings that have runs which kept their losses."""
    return [result for result in results if len(result.losses("loss"))]


def _draw_smoothed(axes: Axes, losses: NDArray[np.float64], drawn: Look, label: str) -> None:
    if not len(losses):
        return
    smoothed = np.array([smooth(run) for run in losses])
    # Not every update: vector graphics would have megabytes of corners that nobody sees.
    updates = np.unique(np.linspace(0, smoothed.shape[1] - 1, _CORNERS).round().astype(int))
    smoothed = smoothed[:, updates]
    low, high = smoothed.min(0), smoothed.max(0)
    axes.plot(updates + 1, smoothed.mean(0), drawn.dashes, color=drawn.color, lw=2, label=label)
    axes.fill_between(updates + 1, low, high, color=drawn.color, alpha=0.15, lw=0)


def _mark_drops(axes: Axes, experiment: Experiment) -> None:
    result = experiment.complete[0]
    for drop in result.records[0].recipe.drops(_updates(result)):
        axes.axvline(drop, color="#999999", lw=0.8, ls=":")


def _mark_published(axes: Axes, name: str) -> None:
    for reference in references("detection"):
        percent = reference.percentages.get(("retinanet", "bp", name))
        if percent is not None:
            axes.axhline(percent, color="#999999", lw=0.8, ls=":")
            axes.text(0.01, percent, f"{reference.name}, bp: {percent:g} %",
                      transform=axes.get_yaxis_transform(), color="#767676", fontsize=9,
                      va="bottom")  # fmt: skip


def _updates(result: SettingResult) -> int:
    """Return the updates of an epoch; 1 where neither losses nor the recipe tell."""
    record, losses = result.records[0], result.losses("loss")
    if losses.shape[1]:
        return int(losses.shape[1] // len(record.epochs))
    return record.recipe.steps_per_epoch or 1


def _top(losses: Sequence[NDArray[np.float64]]) -> float:
    """Return a panel's upper edge."""
    return 1.05 * max((float(np.percentile(run, _SHOWN)) for run in losses), default=1.0)


def _finish(axes: Axes) -> None:
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.margins(x=0)
