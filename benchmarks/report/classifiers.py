"""The figures of classifiers: curves, pictures with what the networks take them for."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.report.comparison import Comparison
from antiparallel.benchmarks.report.looks import COMPARED, GRID, label_ends, look, seeds, title
from antiparallel.benchmarks.report.measures import MEASURES
from antiparallel.benchmarks.report.published import METRICS
from antiparallel.benchmarks.report.results import Experiment, SettingResult

_MEASURES = {measure.name: measure for measure in MEASURES["classification"]}
_TICKS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)
_SMALL = 5
"""Percent: below it, one setting's error is too small to be seen beside another's."""
PICTURES = 12


CAPTIONS = {
    "curves": "In the form of the paper's Figure 1: error after each epoch. Line: mean validation "
    "error over seeds. Band: from the best seed to the worst. Dotted: training error, each picture "
    "as augmented and before the update it took part in. On a log scale an error of zero is drawn "
    "at the lower edge.",
    "comparison": "Top-1 validation error after each epoch in both backends, setting by setting. "
    "Line: mean over seeds. Band: from the best seed to the worst.",
    "pictures": "Real validation pictures, those that the networks found hardest, and what each "
    "setting's network of the first seed takes them for; red: wrong.",
}


def draw_classifiers(experiment: Experiment) -> dict[str, Figure]:
    """Draw an experiment's own figures.

    Args:
        experiment: Of classifiers; at least one of its settings has a complete run.

    Returns:
        Figures by name: ``curves`` (the paper's Figure 1), ``pictures`` (digits only).
    """
    figures = {"curves": _curves(experiment)}
    if experiment.tier == "digits":  # whose pictures are at hand wherever a report is made
        figures["pictures"] = _pictures(experiment)
    return figures


def compare_classifiers(comparison: Comparison) -> Figure:
    """Draw both backends' curves, a panel for each setting."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, len(comparison.rows), sharey=True, squeeze=False)[0]
    floor = _floor(comparison.first)
    for axes, row in zip(panels, comparison.rows, strict=True):
        for experiment, drawn in zip((comparison.first, comparison.second), COMPARED, strict=True):
            result = next(r for r in experiment.complete if r.setting == row.setting)
            errors = np.maximum(result.curves("error"), floor)
            epochs = np.arange(1, errors.shape[1] + 1)
            mean = np.maximum(result.curves("error").mean(0), floor)
            axes.plot(epochs, mean, drawn.dashes, color=drawn.color, lw=2, label=experiment.backend)
            axes.fill_between(
                epochs, errors.min(0), errors.max(0), color=drawn.color, alpha=0.15, lw=0
            )
        axes.set_title(f"{row.setting}  {row.difference:+.2f}")
        axes.set_xlabel("Epoch")
    smallest = min(min(row.first.mean, row.second.mean) for row in comparison.rows)
    for axes in panels:
        _set_percent(axes, floor, smallest)
    panels[0].set_ylabel("Top-1 validation error (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    title(
        figure,
        f"{comparison.name}: mean (line) and range (band) over seeds; in titles the difference of "
        "final means, points",
    )
    return figure


def _curves(experiment: Experiment) -> Figure:
    """Draw a panel for top-1 and, where records have it and it says something, one for top-5."""
    names = METRICS["classification"]
    shown = {metric: name for metric, name in names.items() if _with(experiment, metric)}
    figure = Figure(figsize=(4 + 4.5 * len(shown), 4.8), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (metric, name) in zip(panels, shown.items(), strict=True):
        _draw_curves(axes, experiment, metric)
        axes.set_title(f"{name.capitalize()} error (%)")
        axes.set_xlabel("Epoch")
    lines = [Line2D([], [], color="#555555", lw=2), Line2D([], [], color="#555555", lw=1, ls=":")]
    figure.legend(
        lines, ("validation", "training"), loc="outside lower left", ncols=2, frameon=False
    )
    title(
        figure,
        f"{experiment.name}: mean (line) and range (band) over seeds, n = {seeds(experiment)}",
    )
    return figure


def _draw_curves(axes: Axes, experiment: Experiment, metric: str) -> None:
    """Draw every setting's errors; on a log scale if some are far smaller than others."""
    ends = {}
    floor = _floor(experiment)
    drawn = _with(experiment, metric)
    for result in drawn:
        color, dashes, _ = look(result.setting)
        errors = np.maximum(result.curves(metric), floor)
        training = np.maximum(result.curves(metric, "train").mean(0), floor)
        mean = np.maximum(result.curves(metric).mean(0), floor)
        epochs = np.arange(1, errors.shape[1] + 1)
        axes.plot(epochs, training, ":", color=color, lw=1)
        axes.plot(epochs, mean, dashes, color=color, lw=2)
        axes.fill_between(epochs, errors.min(0), errors.max(0), color=color, alpha=0.15, lw=0)
        final = result.spread(_MEASURES[metric]).mean
        ends[result.setting] = (f"{result.setting}  {final:.2f} %", mean[-1])
    _set_percent(axes, floor, min(result.spread(_MEASURES[metric]).mean for result in drawn))
    label_ends(axes, ends)


def _with(experiment: Experiment, metric: str) -> list[SettingResult]:
    """Return the settings all of whose records have a metric; older ones lack top-5."""
    return [result for result in experiment.complete if not np.isnan(result.curves(metric)).any()]


def _set_percent(axes: Axes, floor: float, smallest: float) -> None:
    """Set the scale of errors: logarithmic if the smallest final one would else be unreadable."""
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if smallest >= _SMALL:
        axes.set_ylim(0, min(105, 1.05 * axes.get_ylim()[1]))
        return
    axes.set_yscale("log")
    low, high = max(0.9 * floor, 0.8 * axes.dataLim.y0), min(110, 1.25 * axes.dataLim.y1)
    axes.set_ylim(low, high)
    axes.set_yticks([tick for tick in _TICKS if low <= tick <= high])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _pictures(experiment: Experiment) -> Figure:
    """Draw the pictures that were misclassified most, and each setting's answer to them."""
    held_out = digits().validation
    taken_for = np.array([run.predictions for run in experiment.records])
    wrong = (taken_for != held_out.labels).mean(0)
    chosen = np.argsort(-wrong, kind="stable")[:PICTURES]
    seed = min(run.seed for run in experiment.records)
    rows = [result for result in experiment.complete if seed in result.runs]
    width, height = 12, 1.9 + 0.32 * len(rows)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # its units are inches, from the upper left corner
    title = (
        f"The {PICTURES} validation pictures misclassified most often over all runs, and what the "
        f"networks of seed {seed} take them for"
    )
    axes.text(0.1, 0.2, title, fontsize=11, va="center")
    axes.text(0.1, 0.6, "truth", va="center")
    for column, picture in enumerate(chosen):
        x, truth = 1.7 + 0.88 * column, int(held_out.labels[picture])
        axes.text(x, 0.6, str(truth), ha="center", va="center", fontweight="bold", fontsize=12)
        axes.imshow(
            held_out.images[picture, ..., 0], cmap="gray_r", extent=(x - 0.38, x + 0.38, 1.58, 0.82)
        )
        for row, result in enumerate(rows):
            _answer(
                axes, x, 1.86 + 0.32 * row, result.runs[seed].record.predictions[picture], truth
            )
    for row, result in enumerate(rows):
        color = look(result.setting).color
        axes.text(
            0.1, 1.86 + 0.32 * row, result.setting, color=color, fontweight="bold", va="center"
        )
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.set_axis_off()
    return figure


def _answer(axes: Axes, x: float, y: float, answer: int, truth: int) -> None:
    if answer == truth:
        axes.text(x, y, str(answer), ha="center", va="center", color="#767676")
    else:
        box = {"boxstyle": "round,pad=0.22", "facecolor": "#C00000", "edgecolor": "none"}
        axes.text(
            x, y, str(answer), ha="center", va="center", color="white", fontweight="bold", bbox=box
        )


def _floor(experiment: Experiment) -> float:
    """Return half of the smallest error that is not zero, in percent: one picture's."""
    return 50 / len(experiment.records[0].predictions)
