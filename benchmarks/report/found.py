"""What detectors found in a few pictures, beside what is there."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TABLEAU_COLORS
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from antiparallel.benchmarks.data.pictures import PictureError, decode
from antiparallel.benchmarks.files import read_bounded
from antiparallel.benchmarks.record import Found, Shown, ShownPicture
from antiparallel.benchmarks.report.looks import look
from antiparallel.benchmarks.report.results import Experiment
from antiparallel.spec import SpecError

PICTURES = 4
SCORE = 0.3
_MOST = 10
"""Objects in a picture that can be told apart in a small figure."""
_COLORS = list(TABLEAU_COLORS.values())
_SIDE = 480
"""Pixels that a picture's longer side has in the figure, at most."""
_LARGEST = 64 * 2**20  # bytes of a picture's file

CAPTIONS = {
    "found": "What is in a few of the evaluated pictures (left), and what each setting's network "
    f"of the first seed finds in them: boxes with a score of {SCORE:g} or more, their categories "
    "and scores. A colour is a category, dashes are a crowd. Without the data set at hand, the "
    "pictures are empty.",
}


class _Box(NamedTuple):
    """A box to draw: left, top, width and height in pixels, its category, text, and dashes."""

    box: Sequence[float]
    category: int
    text: str
    dashes: str = "-"


def draw_found(experiment: Experiment, pictures: Path | None) -> Figure | None:
    """Draw detections: a row for each picture, a column for the truth and for each setting.

    Args:
        experiment: An experiment.
        pictures: The data set's folder; None where it is not at hand.

    Returns:
        The figure; None where runs keep no detections.

    Raises:
        SpecError: A picture is not in the folder, or cannot be decoded.
    """
    runs = {result.setting: next(iter(result.runs.values())) for result in experiment.complete}
    shown = next((run.shown for run in runs.values() if run.shown is not None), None)
    if shown is None or not shown.pictures:
        return None
    chosen = _choose(shown.pictures)
    figure = Figure(figsize=(2.9 * (1 + len(runs)), _height(chosen)))
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
    panels = figure.subplots(
        len(chosen), 1 + len(runs), squeeze=False,
        height_ratios=[_ratio(picture) for picture in chosen],
    )  # fmt: skip
    for line, picture in zip(panels, chosen, strict=True):
        background = _background(picture, pictures)
        _draw(line[0], picture, background, _truth(picture, shown))
        for axes, run in zip(line[1:], runs.values(), strict=True):
            detections = [one for one in run.detections if one.image_id == picture.image]
            _draw(axes, picture, background, _detected(detections, shown))
            if not _strong(detections):
                _say_best(axes, detections)
    panels[0, 0].set_title("truth", fontweight="bold")
    for axes, setting in zip(panels[0, 1:], runs, strict=True):
        axes.set_title(setting, color=look(setting).color, fontweight="bold")
    return figure


def _choose(pictures: Sequence[ShownPicture]) -> list[ShownPicture]:
    """Return the first pictures with a few objects; where there are too few of them, others too."""
    ranked = sorted(pictures, key=lambda picture: not 1 <= len(picture.objects) <= _MOST)
    return ranked[:PICTURES]


def _height(pictures: Sequence[ShownPicture]) -> float:
    """Return a figure's height in inches that leaves little empty around these pictures."""
    return 0.3 + sum(0.05 + 2.85 * _ratio(picture) for picture in pictures)


def _ratio(picture: ShownPicture) -> float:
    """Return the height of a picture's row over its column's width; tall ones are made smaller."""
    return min(picture.height / picture.width, 0.8)


def _background(picture: ShownPicture, pictures: Path | None) -> Image.Image | None:
    if pictures is None:
        return None
    try:
        found = decode(read_bounded(pictures / picture.name, _LARGEST))
    except (PictureError, OSError) as error:
        raise SpecError(
            f"Expected the data set of these runs, with {picture.name} ({error}). "
            f"Received: data={str(pictures)!r}"
        ) from error
    found.thumbnail((_SIDE, _SIDE))
    return found


def _truth(picture: ShownPicture, shown: Shown) -> list[_Box]:
    return [
        _Box(one.box, one.category, _name(one.category, shown), "--" if one.crowd else "-")
        for one in picture.objects
    ]


def _detected(detections: Sequence[Found], shown: Shown) -> list[_Box]:
    return [
        _Box(
            one.bbox,
            one.category_id,
            f"{_name(one.category_id, shown)} {one.score:.2f}",
        )
        for one in _strong(detections)
    ]


def _strong(detections: Sequence[Found]) -> list[Found]:
    """Return the detections to draw, the best last, on top of the others."""
    strong = [one for one in detections if one.score >= SCORE]
    return sorted(strong, key=lambda one: one.score)


def _name(category: int, shown: Shown) -> str:
    return shown.categories.get(category, str(category))


def _draw(
    axes: Axes, picture: ShownPicture, background: Image.Image | None, boxes: Sequence[_Box]
) -> None:
    axes.set(xlim=(0, picture.width), ylim=(picture.height, 0), aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#bbbbbb")
    axes.set_facecolor("#f6f6f6")
    if background is not None:
        extent = (0, picture.width, picture.height, 0)
        axes.imshow(np.asarray(background), extent=extent, interpolation="bilinear")
    for box in boxes:
        _draw_box(axes, box)


def _draw_box(axes: Axes, box: _Box) -> None:
    left, top, width, height = box.box
    color = _COLORS[box.category % len(_COLORS)]
    edge = Rectangle((left, top), width, height, fill=False, edgecolor=color, lw=1.4, ls=box.dashes)
    axes.add_patch(edge)
    right_edge = axes.get_xlim()[1]
    on_the_right = left > 0.65 * right_edge  # where a text to the right would be cut off
    axes.text(
        min(left + width, right_edge) if on_the_right else max(left, 0),
        max(top, 0),
        box.text,
        color="white",
        fontsize=6.5,
        ha="right" if on_the_right else "left",
        va="top",
        clip_on=True,
        bbox={"facecolor": color, "edgecolor": "none", "pad": 1, "alpha": 0.9},
    )


def _say_best(axes: Axes, detections: Sequence[Found]) -> None:
    best = max((one.score for one in detections), default=None)
    text = f"nothing with a score\nof {SCORE:g} or more"
    if best is not None:
        text += f"; best {best:.2f}"
    axes.text(
        0.5,
        0.04,
        text,
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        fontsize=8,
        color="#555555",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )
