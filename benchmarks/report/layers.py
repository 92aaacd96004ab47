"""The figures of what happens inside: diagnostics of every layer, at the end and on the way."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from antiparallel.benchmarks.report.looks import GRID, look
from antiparallel.benchmarks.report.results import Experiment, SettingResult

CAPTIONS = {
    "diagnostics": "In the form of the paper's Figure 3: weights and feedback after the last "
    "epoch, layer by layer. Bars: one standard deviation over seeds. For backprop, whose B is W, "
    "the angle is that between W and sign(W).",
    "courses": "The same on the way: each line is a layer, its colour says how deep; means over "
    "seeds. Dotted: orthogonal.",
}

_PANELS = (
    ("angle", "Alignment angle of W and B (degrees)"),
    ("kurtosis", "Excess kurtosis of W"),
    ("magnitude", "Mean absolute weight"),
)
_MANY = 12
"""Layers whose names no longer fit side by side in a third of a figure."""
_VERY_MANY = 30
"""Layers whose names fit in a whole figure only if they are small."""


def draw_layers(experiment: Experiment) -> Figure:
    """Draw the final diagnostics against the layer, a panel each (the paper's Figure 3)."""
    many = max(len(record.epochs[-1].diagnostics) for record in experiment.records) > _MANY
    figure = Figure(figsize=(12, 9) if many else (12, 4.3), layout="constrained")
    shape = (len(_PANELS), 1) if many else (1, len(_PANELS))
    panels = figure.subplots(*shape, sharex=many)
    for axes, (name, label) in zip(panels, _PANELS, strict=True):
        for number, result in enumerate(experiment.complete):
            shift = 0.1 * (number - (len(experiment.complete) - 1) / 2)
            _draw_layer_by_layer(axes, result, name, shift)
        axes.set_title(label)
        axes.grid(axis="y", color=GRID, lw=0.8)
    for axes in panels[-1:] if many else panels:
        axes.set_xlabel("Layer, first to last")
    panels[0].set_ylim(0, 100)
    _mark_orthogonal(panels[0])
    panels[2].set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def draw_courses(experiment: Experiment) -> Figure:
    """Draw each layer's diagnostics against the epoch: a row a diagnostic, a column a setting."""
    results = experiment.complete
    figure = Figure(figsize=(1.2 + 2.3 * max(len(results), 3), 7), layout="constrained")
    panels = figure.subplots(len(_PANELS), len(results), sharex="col", sharey="row", squeeze=False)
    depth = max(len(record.epochs[-1].diagnostics) for record in experiment.records)
    # Not viridis's palest end, which is hard to see on white.
    shades = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, max(depth, 2))))
    for row, (name, label) in zip(panels, _PANELS, strict=True):
        for axes, result in zip(row, results, strict=True):
            values = result.courses(name)
            for layer, course in enumerate(values.T):
                axes.plot(np.arange(1, len(values) + 1), course, color=shades(layer), lw=1.2)
            axes.grid(axis="y", color=GRID, lw=0.8)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        row[0].set_ylabel(label.replace(" (", "\n("))
    for axes, result in zip(panels[0], results, strict=True):
        axes.set_title(result.setting, color=look(result.setting).color, fontweight="bold")
        axes.set_ylim(0, 100)
        axes.axhline(90, color="#999999", lw=0.8, ls=":")
    panels[2, 0].set_ylim(bottom=0)
    for axes in panels[-1]:
        axes.set_xlabel("Epoch")
    order = ScalarMappable(Normalize(1, depth), shades)
    bar = figure.colorbar(order, ax=panels, aspect=40, pad=0.01)
    bar.set_label("Layer")
    bar.set_ticks([1, depth], labels=["first", "last"])
    return figure


def _draw_layer_by_layer(axes: Axes, result: SettingResult, name: str, shift: float) -> None:
    color, dashes, marker = look(result.setting)
    layers, values = result.diagnostics(name)
    places = np.arange(len(layers))
    deviation = values.std(0, ddof=1) if len(values) > 1 else None
    axes.errorbar(
        places + shift,
        values.mean(0),
        deviation,
        color=color,
        ls=dashes,
        marker=marker,
        ms=4,
        lw=1.4,
        capsize=2,
        label=result.setting,
    )
    size = 7.5 if len(layers) > _VERY_MANY else None
    axes.set_xticks(places, layers, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)


def _mark_orthogonal(axes: Axes) -> None:
    axes.axhline(90, color="#999999", lw=0.8, ls=":")
    axes.text(1, 91, "orthogonal", transform=axes.get_yaxis_transform(),
              color="#767676", fontsize=9, ha="right", va="bottom")  # fmt: skip
