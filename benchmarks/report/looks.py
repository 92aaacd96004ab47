"""How every figure looks: colours, dashes and markers of the settings, fonts, grids, names."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from antiparallel.benchmarks.report.results import Experiment


class Look(NamedTuple):
    """A line's colour, dashes and marker."""

    color: str
    dashes: str
    marker: str


_LOOKS: dict[str, Look] = {
    "bp": Look("#222222", "-", "o"),
    "ss": Look("#0072B2", "-", "s"),
    "ss-lastbp": Look("#56B4E9", "--", "s"),
    "ss-fixed": Look("#009E73", "-", "D"),
    "ss-batch": Look("#CC79A7", "-", "v"),
    "fa": Look("#D55E00", "-", "^"),
    "fa-lastbp": Look("#E69F00", "--", "^"),
}
"""Okabe and Ito's colours, which the colour-blind can tell apart; dashed: last layer by BP."""

COMPARED = (Look("#0072B2", "-", "o"), Look("#D55E00", "--", "s"))
"""Two backends, side by side."""

GRID = "#e4e4e4"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.dpi": 150,
    "savefig.facecolor": "white",
    "svg.hashsalt": "antiparallel",  # the same figure gives the same file
}


def look(setting: str) -> Look:
    """Return a setting's look; all settings of the user's own share one."""
    return _LOOKS.get(setting, Look("#999999", ":", "X"))


def title(figure: Figure, text: str) -> None:
    """Write a figure's title."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=11)


def seeds(experiment: Experiment) -> str:
    """Return how many seeds a setting has, in words."""
    counts = sorted({len(result.runs) for result in experiment.complete})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def label_ends(axes: Axes, ends: Mapping[str, tuple[str, float]]) -> None:
    """Write each setting's text at the right end of its line, moved up where texts would overlap.

    Args:
        axes: The panel, with its final scale and limits.
        ends: By setting, the text and the height of the line's end.
    """
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    free = -np.inf
    for setting, (text, height) in sorted(ends.items(), key=lambda item: item[1][1]):
        free = max(float(scale.transform([height])[0]), free + 0.055 * (high - low))
        axes.annotate(
            text,
            (1, float(scale.inverted().transform([free])[0])),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=look(setting).color,
            fontweight="bold",
            annotation_clip=False,
        )


def image(figure: Figure, form: str) -> bytes:
    """Return a figure's file, the same bytes for the same figure: no date, no version."""
    buffer = io.BytesIO()
    metadata = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=form, dpi=150, metadata=metadata)
    return buffer.getvalue()
