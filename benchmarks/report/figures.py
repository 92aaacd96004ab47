"""The figures: curves, diagnostics per layer, pictures with what the networks take them for."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from antiparallel.benchmarks.data import DATASETS
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

_OTHER = _Look("#009E73", ":", "D")
_STYLE = {
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
        return {
            "curves": _curves(experiment),
            "diagnostics": _diagnostics(experiment),
            "pictures": _pictures(experiment),
        }


def _curves(experiment: Experiment) -> Figure:
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    ends = {}
    floor = _floor(experiment)
    for result in experiment.complete:
        look, errors = LOOKS.get(result.setting, _OTHER), result.curves()
        epochs = np.arange(1, errors.shape[1] + 1)
        mean = errors.mean(0)
        axes.plot(epochs, np.maximum(mean, floor), look.dashes, color=look.color, lw=2)
        if len(errors) > 1:
            deviation = errors.std(0, ddof=1)
            low, high = np.maximum(mean - deviation, floor), np.maximum(mean + deviation, floor)
            axes.fill_between(epochs, low, high, color=look.color, alpha=0.15, lw=0)
        ends[result.setting] = (f"{result.setting}  {mean[-1]:.1f} %", max(mean[-1], floor))
    _log_percent(axes, floor)
    _label_ends(axes, ends)
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Top-1 validation error (%), log scale")
    axes.set_title(f"Validation error, {experiment.name} ({_seeds(experiment)})")
    return figure


def _log_percent(axes: Axes, floor: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(floor * 0.9, 110)
    axes.set_yticks([tick for tick in _TICKS if tick >= floor])
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#e4e4e4", lw=0.8)
    axes.xaxis.get_major_locator().set_params(integer=True)


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
    figure = Figure(figsize=(12, 4.3), layout="constrained")
    panels = figure.subplots(1, len(_PANELS))
    for axes, (name, label) in zip(panels, _PANELS, strict=True):
        for number, result in enumerate(experiment.complete):
            shift = 0.1 * (number - (len(experiment.complete) - 1) / 2)
            _diagnostic(axes, result, name, shift)
        axes.set_title(label)
        axes.set_xlabel("Layer")
        axes.grid(axis="y", color="#e4e4e4", lw=0.8)
    panels[0].axhline(90, color="#999999", lw=0.8, ls=":")
    panels[0].set_ylim(0, 100)
    panels[0].annotate("orthogonal", (0, 90), xytext=(0, 3), textcoords="offset points",
                       color="#777777", fontsize=8)  # fmt: skip
    panels[2].set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        f"After training, {experiment.name} ({_seeds(experiment)}; under bp the angle is that of "
        "W and sign(W))",
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
    held_out = DATASETS[experiment.tier]().validation
    answers = np.array([run.predictions for run in experiment.records])
    wrong = (answers != held_out.labels).mean(0)
    chosen = np.argsort(-wrong, kind="stable")[:PICTURES]
    rows = experiment.complete
    figure = Figure(figsize=(12, 1.9 + 0.36 * len(rows)))
    seed = min(experiment.records[0].seed, *(min(result.runs) for result in rows))
    for column, picture in enumerate(chosen):
        axes = figure.add_axes((0.17 + column * 0.068, 0.42, 0.058, 0.4))
        axes.imshow(held_out.images[picture, 0], cmap="gray_r", interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"{held_out.labels[picture]}", loc="center", fontsize=11, fontweight="bold")
        for row, result in enumerate(rows):
            _answer(figure, 0.199 + column * 0.068, 0.34 - row * 0.075, result, seed, picture,
                    int(held_out.labels[picture]))  # fmt: skip
    for row, result in enumerate(rows):
        color = LOOKS.get(result.setting, _OTHER).color
        figure.text(0.02, 0.34 - row * 0.075, result.setting, color=color, fontweight="bold",
                    va="center")  # fmt: skip
    figure.text(0.02, 0.86, "shows a", va="center")
    figure.text(
        0.02,
        0.96,
        f"The {PICTURES} validation pictures misclassified most often over all runs, and what the "
        f"networks of seed {seed} take them for (x: wrong)",
        fontsize=11,
        va="center",
    )
    return figure


def _answer(
    figure: Figure, x: float, y: float, result: SettingResult, seed: int, picture: int, label: int
) -> None:
    run = result.runs.get(seed)
    if run is None:
        return
    right = run.predictions[picture] == label
    figure.text(
        x,
        y,
        f"{run.predictions[picture]}" if right else f"{run.predictions[picture]} x",
        ha="center",
        va="center",
        color="#666666" if right else "#C00000",
        fontweight="normal" if right else "bold",
    )


def _floor(experiment: Experiment) -> float:
    """Return half of the smallest error that is not zero, in percent: one picture's."""
    return 50 / len(DATASETS[experiment.tier]().validation.labels)


def _seeds(experiment: Experiment) -> str:
    counts: Sequence[int] = sorted({len(result.runs) for result in experiment.complete})
    n = " to ".join(str(count) for count in (counts[0], counts[-1])) if len(counts) > 1 else counts[0]
    return f"mean and standard deviation over seeds, n = {n}"
