"""Which figures an experiment has, by what its networks are for."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from antiparallel.benchmarks.report import classifiers, detectors, found, layers
from antiparallel.benchmarks.report.comparison import Comparison
from antiparallel.benchmarks.report.looks import STYLE
from antiparallel.benchmarks.report.measures import Task
from antiparallel.benchmarks.report.results import Experiment

_DRAW: dict[Task, Callable[[Experiment], dict[str, Figure]]] = {
    "classification": classifiers.draw_classifiers,
    "detection": detectors.draw_detectors,
}
_COMPARE: dict[Task, Callable[[Comparison], Figure]] = {
    "classification": classifiers.compare_classifiers,
    "detection": detectors.compare_detectors,
}
_CAPTIONS: dict[Task, dict[str, str]] = {
    "classification": classifiers.CAPTIONS | layers.CAPTIONS,
    "detection": detectors.CAPTIONS | found.CAPTIONS | layers.CAPTIONS,
}


def caption(task: Task, name: str) -> str:
    """Return what stands below a figure."""
    return _CAPTIONS[task][name]


def draw_figures(experiment: Experiment, pictures: Path | None = None) -> dict[str, Figure]:
    """Draw an experiment's figures.

    Args:
        experiment: At least one of its settings has a complete run.
        pictures: The folder of a detector's data set; None where it is not at hand.

    Returns:
        Figures by name: the task's own, ``diagnostics`` (the paper's Figure 3), ``courses`` (the
        same against the epoch), and ``found``, where runs keep what they found in pictures.
    """
    with mpl.rc_context(STYLE):
        figures = _DRAW[experiment.task](experiment) | {
            "diagnostics": layers.draw_layers(experiment),
            "courses": layers.draw_courses(experiment),
        }
        if (drawn := found.draw_found(experiment, pictures)) is not None:
            figures["found"] = drawn
        return figures


def draw_comparison(comparison: Comparison) -> Figure:
    """Draw both backends' curves, setting by setting."""
    with mpl.rc_context(STYLE):
        return _COMPARE[comparison.first.task](comparison)
