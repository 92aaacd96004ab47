"""The figures: curves, diagnostics per layer, pictures with what the networks take them for."""

from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.report.comparison import Comparison
from antiparallel.benchmarks.report.results import Experiment, SettingResult


class _Look(NamedTuple):
    color: str
    dashes: str
    marker: str


LOOKS: dict[str, _Look] = {
    "bp": _Look("#222222", "-", "o"),
    "ss": _Look("#0072B2", "-", "s"),
    "ss-lastbp": _Look("#56B4E9", "--", "s"),
    "fa": _Look("#D55E00", "-", "^"),
    "fa-lastbp": _Look("#E69F00", "--", "^"),
}
"""Okabe and Ito's colours, which the colour-blind can tell apart; dashed: last layer by BP."""

_COMPARED_LOOKS = (_Look("#0072B2", "-", "o"), _Look("#D55E00", "--", "s"))
_OTHER = _Look("#009E73", ":", "D")
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.dpi": 150,
    "savefig.facecolor": "white",
}
_TICKS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)
_PANELS = (
    ("angle", "Alignment angle of W and B (degrees)"),
    ("kurtosis", "Excess kurtosis of W"),
    ("magnitude", "Mean absolute weight"),
)
PICTURES = 12


def draw_figures(experiment: Experiment) -> dict[str, Figure]:
    """Draw an experiment's figures.

    Args:
        experiment: At least one of its settings has a complete run.

    Returns:
        Figures by name: ``curves`` (the paper's Figure 1), ``diagnostics`` (its Figure 3),
        ``pictures``.
    """
    with mpl.rc_context(_STYLE):
        figures = {"curves": _curves(experiment), "diagnostics": _diagnostics(experiment)}
        if experiment.tier == "digits":  # whose pictures are at hand wherever a report is made
            figures["pictures"] = _pictures(experiment)
        return figures


def draw_comparison(comparison: Comparison) -> Figure:
    """Draw both backends' curves, a panel for each setting."""
    with mpl.rc_context(_STYLE):
        return _comparison(comparison)


def _comparison(comparison: Comparison) -> Figure:
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, len(comparison.rows), sharey=True, squeeze=False)[0]
    floor = _floor(comparison.first)
    for axes, row in zip(panels, comparison.rows, strict=True):
        for experiment, look in zip(
            (comparison.first, comparison.second), _COMPARED_LOOKS, strict=True
        ):
            result = next(r for r in experiment.complete if r.setting == row.setting)
            errors = np.maximum(result.curves(), floor)
            epochs = np.arange(1, errors.shape[1] + 1)
            mean = np.maximum(result.curves().mean(0), floor)
            axes.plot(epochs, mean, look.dashes, color=look.color, lw=2, label=experiment.backend)
            axes.fill_between(
                epochs, errors.min(0), errors.max(0), color=look.color, alpha=0.15, lw=0
            )
        _log_percent(axes, floor)
        axes.set_title(f"{row.setting}  {row.difference:+.2f}")
        axes.set_xlabel("Epoch")
    panels[0].set_ylabel("Top-1 validation error (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(
        f"{comparison.name}: mean (line) and range (band) over seeds; in titles the difference of "
        "final means, points",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    return figure


def _curves(experiment: Experiment) -> Figure:
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    ends = {}
    floor = _floor(experiment)
    for result in experiment.complete:
        look, errors = LOOKS.get(result.setting, _OTHER), result.curves()
        epochs = np.arange(1, errors.shape[1] + 1)
        mean = errors.mean(0)
        axes.plot(epochs, np.maximum(mean, floor), look.dashes, color=look.color, lw=2, marker=".")
        low, high = np.maximum(errors.min(0), floor), np.maximum(errors.max(0), floor)
        axes.fill_between(epochs, low, high, color=look.color, alpha=0.15, lw=0)
        ends[result.setting] = (f"{result.setting}  {mean[-1]:.2f} %", max(mean[-1], floor))
    _log_percent(axes, floor)
    _label_ends(axes, ends)
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Top-1 validation error (%), log scale")
    axes.set_title(
        f"{experiment.name}: mean (line) and range (band) over seeds, n = {_seeds(experiment)}"
    )
    return figure


def _log_percent(axes: Axes, floor: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(floor * 0.9, 110)
    axes.set_yticks([tick for tick in _TICKS if tick >= floor])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#e4e4e4", lw=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _label_ends(axes: Axes, ends: dict[str, tuple[str, float]]) -> None:
    """Write each line's name at its right end, moved up where names would overlap."""
    step = (np.log10(axes.get_ylim()[1]) - np.log10(axes.get_ylim()[0])) * 0.055
    free = -np.inf
    for setting, (text, height) in sorted(ends.items(), key=lambda item: item[1][1]):
        free = max(np.log10(height), free + step)
        axes.annotate(
            text,
            (1, 10**free),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=LOOKS.get(setting, _OTHER).color,
            fontweight="bold",
            annotation_clip=False,
        )


def _diagnostics(experiment: Experiment) -> Figure:
    many = max(len(run.epochs[-1].diagnostics) for run in experiment.records) > 12
    figure = Figure(figsize=(12, 9) if many else (12, 4.3), layout="constrained")
    shape = (len(_PANELS), 1) if many else (1, len(_PANELS))
    panels = figure.subplots(*shape, sharex=many)
    for axes, (name, label) in zip(panels, _PANELS, strict=True):
        for number, result in enumerate(experiment.complete):
            shift = 0.1 * (number - (len(experiment.complete) - 1) / 2)
            _diagnostic(axes, result, name, shift)
        axes.set_title(label)
        axes.grid(axis="y", color="#e4e4e4", lw=0.8)
    for axes in panels[-1:] if many else panels:
        axes.set_xlabel("Layer")
    panels[0].axhline(90, color="#999999", lw=0.8, ls=":")
    panels[0].set_ylim(0, 100)
    panels[0].text(1, 91, "orthogonal", transform=panels[0].get_yaxis_transform(),
                   color="#767676", fontsize=9, ha="right", va="bottom")  # fmt: skip
    panels[2].set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        f"{experiment.name}, after training: mean and standard deviation over seeds, "
        f"n = {_seeds(experiment)}; under bp the angle is that of W and sign(W)",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    return figure


def _diagnostic(axes: Axes, result: SettingResult, name: str, shift: float) -> None:
    look = LOOKS.get(result.setting, _OTHER)
    layers, values = result.diagnostics(name)
    places = np.arange(len(layers))
    deviation = values.std(0, ddof=1) if len(values) > 1 else None
    axes.errorbar(
        places + shift,
        values.mean(0),
        deviation,
        color=look.color,
        ls=look.dashes,
        marker=look.marker,
        ms=4,
        lw=1.4,
        capsize=2,
        label=result.setting,
    )
    axes.set_xticks(places, layers, rotation=45, ha="right", rotation_mode="anchor")


def _pictures(experiment: Experiment) -> Figure:
    """Draw the pictures that were misclassified most, and each setting's answer to them."""
    held_out = digits().validation
    answers = np.array([run.predictions for run in experiment.records])
    wrong = (answers != held_out.labels).mean(0)
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
            _answer(axes, x, 1.86 + 0.32 * row, result.runs[seed].predictions[picture], truth)
    for row, result in enumerate(rows):
        color = LOOKS.get(result.setting, _OTHER).color
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


def _seeds(experiment: Experiment) -> str:
    counts = sorted({len(result.runs) for result in experiment.complete})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
