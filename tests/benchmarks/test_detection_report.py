"""The report of detectors, from runs made here."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from antiparallel.benchmarks.events import write_events
from antiparallel.benchmarks.recipes import RECIPES, Recipe
from antiparallel.benchmarks.record import (
    Epoch,
    Found,
    LayerDiagnostics,
    Record,
    Shown,
    ShownObject,
    ShownPicture,
)
from antiparallel.benchmarks.report.comparison import compare
from antiparallel.benchmarks.report.detectors import draw_detectors, smooth
from antiparallel.benchmarks.report.figures import draw_comparison, draw_figures
from antiparallel.benchmarks.report.found import draw_found
from antiparallel.benchmarks.report.pages import make_report, write_report
from antiparallel.benchmarks.report.published import beside
from antiparallel.benchmarks.report.results import Experiment, gather
from antiparallel.benchmarks.report.runs import Run, find_runs
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.terminal import console, print_section, summary_line
from antiparallel.spec import SpecError

SETTINGS = ("bp", "ss", "fa")
FINAL = {"bp": 0.3, "ss": 0.2, "fa": 0.1}
EPOCHS, STEPS = 4, 50
SHOWN = Shown(
    categories={1: "person", 18: "dog"},
    pictures=(
        ShownPicture(
            image=7,
            name="val2017/7.png",
            width=40,
            height=30,
            objects=(
                ShownObject(category=1, box=(2, 3, 10, 20)),
                ShownObject(category=18, box=(20, 5, 12, 9), crowd=True),
            ),
        ),
        ShownPicture(image=9, name="val2017/9.png", width=20, height=60),
    ),
)
FOUND = (
    Found(image_id=7, category_id=1, bbox=(2, 3, 9, 19), score=0.875),
    Found(image_id=7, category_id=18, bbox=(0, 0, 5, 5), score=0.125),
    Found(image_id=9, category_id=18, bbox=(0, 0, 5, 5), score=0.25),
)


def recipe_of(setting: str, tier: str = "coco-tiny") -> Recipe:
    changes = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "lr_drops": (3,)}
    recipe = RECIPES[f"{tier}/retinanet-{setting}"]
    return Recipe.model_validate(recipe.model_dump() | changes)


def run(setting: str, seed: int = 0, tier: str = "coco-tiny", backend: str = "torch") -> Run:
    """Return a run with made-up losses, which ends with its setting's AP."""
    draws = np.random.default_rng([seed, ord(setting[0]), len(backend)])
    classification = (1 - FINAL[setting]) * np.exp(0.1 * draws.normal(size=EPOCHS * STEPS))
    regression = np.full(EPOCHS * STEPS, 0.5)
    losses = {
        "loss": classification + regression,
        "classification": classification,
        "regression": regression,
    }
    record = Record(
        recipe=recipe_of(setting, tier),
        overrides={},
        seed=seed,
        backend=backend,
        status="complete",
        epochs=tuple(_epoch(number, FINAL[setting] + seed / 100) for number in range(EPOCHS)),
    )
    return Run(record, losses, SHOWN, FOUND)


def _epoch(number: int, final: float) -> Epoch:
    ap = final * (number + 1) / EPOCHS
    losses = {"loss": 1.0, "classification": 0.5, "regression": 0.5}
    precisions = {"ap": ap, "ap50": 1.5 * ap, "ap75": ap, "ap_medium": ap, "ap_large": ap}
    return Epoch(
        epoch=number,
        lr=0.01,
        train=losses,
        validation=losses | precisions | {"ap_small": nan},
        diagnostics={"conv1": LayerDiagnostics(angle=40, kurtosis=1, magnitude=0.1)},
        seconds=1,
        ended=1,
    )


def experiment(seeds: int = 2, tier: str = "coco-tiny", backend: str = "torch") -> Experiment:
    runs = [run(setting, seed, tier, backend) for setting in SETTINGS for seed in range(seeds)]
    (gathered,) = gather(runs)
    return gathered


def write(made: Run, folder: Path) -> None:
    """Write a run's folder as training does."""
    kept = RunFolder(folder)
    folder.mkdir(parents=True)
    kept.write_record(made.record)
    for epoch in range(EPOCHS):
        part = slice(epoch * STEPS, (epoch + 1) * STEPS)
        kept.write_losses(epoch, {name: all_[part].tolist() for name, all_ in made.losses.items()})
    kept.write_detections([found.model_dump() for found in made.detections])
    if made.shown is not None:
        kept.write_shown(made.shown)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Write the pictures that runs show, in one colour each."""
    folder = tmp_path / "coco"
    for picture, color in zip(SHOWN.pictures, ("red", "blue"), strict=True):
        path = folder / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (picture.width, picture.height), color).save(path)
    return folder


def drawn_found(pictures: Path | None = None) -> Figure:
    figure = draw_found(experiment(seeds=1), pictures)
    assert figure is not None
    return figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_runs_are_read_from_their_folders_with_losses_and_what_was_found(tmp_path: Path):
    made = run("ss")
    write(made, tmp_path / "runs" / "ss")
    (found,) = find_runs([tmp_path])
    assert found.record.recipe == made.record.recipe
    assert {name: losses.tolist() for name, losses in found.losses.items()} == {
        name: losses.tolist() for name, losses in made.losses.items()
    }
    assert (found.shown, found.detections) == (SHOWN, FOUND)


def test_only_what_was_found_in_pictures_to_show_is_kept(tmp_path: Path):
    other = Found(image_id=8, category_id=1, bbox=(0, 0, 1, 1), score=0.5)
    write(replace(run("ss"), detections=(*FOUND, other)), tmp_path / "ss")
    (found,) = find_runs([tmp_path])
    assert found.detections == FOUND


def test_a_run_that_was_not_evaluated_yet_has_found_nothing(tmp_path: Path):
    write(run("ss"), tmp_path / "ss")
    (tmp_path / "ss" / "detections.json").unlink()
    (found,) = find_runs([tmp_path])
    assert (found.shown, found.detections) == (SHOWN, ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shown.json", '{"categories": {}, "pictures": [{"image": 1}]}'),
        ("detections.json", '[{"image_id": 7, "category_id": 1, "bbox": [0, 0], "score": 1}]'),
        ("detections.json", "[{"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str):
    write(run("ss"), tmp_path / "ss")
    (tmp_path / "ss" / name).write_text(content)
    with pytest.raises(SpecError, match=name):
        find_runs([tmp_path])


def test_a_detectors_table_has_precisions_and_the_final_loss(tmp_path: Path):
    made = experiment()
    write_report(make_report([made]), tmp_path)
    (found,) = json.loads((tmp_path / "report.json").read_text())["experiments"]
    bp = found["settings"][0]
    assert bp["ap_percent"]["mean"] == pytest.approx(30.5)
    assert bp["ap50_percent"]["mean"] == pytest.approx(1.5 * 30.5)
    assert bp["ap_percent_by_seed"] == {"0": pytest.approx(30), "1": pytest.approx(31)}
    assert bp["ap_small_percent"] == {"mean": None, "deviation": None, "n": 0}
    tenth = EPOCHS * STEPS // 10
    runs = made.settings[0].runs.values()
    expected = np.mean([kept.losses["loss"][-tenth:].mean() for kept in runs])
    assert bp["final_training_loss"]["mean"] == pytest.approx(expected)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "AP, small (%)" in text
        assert "Top-1" not in text


def test_a_detectors_figures_are_losses_precisions_layers_and_what_was_found():
    names = ["losses", "precision", "diagnostics", "courses", "found"]
    assert list(draw_figures(experiment())) == names


def test_losses_have_three_panels_with_every_setting_raw_and_smoothed():
    figure = draw_detectors(experiment())["losses"]
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["Classification loss", "Box loss", "Total loss"]
    drop = 1
    assert all(len(panel.lines) == 2 * len(SETTINGS) + drop for panel in figure.axes)
    raw = figure.axes[2].lines[0]
    assert list(raw.get_ydata()) == run("bp").losses["loss"].tolist()


def test_a_running_mean_is_the_mean_of_a_window_cut_off_at_the_ends():
    losses = np.random.default_rng(0).normal(size=2500)
    smoothed, half = smooth(losses), 2500 // 50 // 2
    for place in (0, 10, 1200, 2499):
        window = losses[max(0, place - half) : place + half + 1]
        # Differences of sums of 2,500 numbers below 5.
        tolerance = 2500 * 5 * 2500 * np.finfo(np.float64).eps / len(window)
        assert smoothed[place] == pytest.approx(window.mean(), abs=tolerance)


def test_runs_that_kept_no_losses_are_reported_without_them(tmp_path: Path):
    bare = [replace(run(setting), losses={}, shown=None, detections=()) for setting in SETTINGS]
    (section,) = make_report(gather(bare)).sections
    assert list(section.figures) == ["precision", "diagnostics", "courses"]
    assert all(judgement.verdict == "undecided" for judgement in section.judgements)
    write_report(make_report(gather(bare)), tmp_path)


def test_the_published_precision_is_subtracted_only_from_cocos():
    for tier, difference in (("coco", 30.5 - 31.7), ("coco-tiny", None)):
        row = next(row for row in beside(experiment(tier=tier)) if row.setting == "bp")
        (cell,) = row.cells
        assert cell.percent == 31.7
        assert cell.difference == (None if difference is None else pytest.approx(difference))


def test_the_published_precision_is_drawn_only_beside_cocos():
    for tier, drawn in (("coco", True), ("coco-tiny", False)):
        figure = draw_detectors(experiment(tier=tier))["precision"]
        assert any("MMDetection" in text for text in texts(figure)) == drawn


def test_boxes_are_drawn_with_names_and_scores_beside_the_truth():
    figure = drawn_found()
    first = [[text.get_text() for text in axes.texts] for axes in figure.axes[:4]]
    assert first == [["person", "dog"], *[["person 0.88"]] * 3]  # 0.125 is too low to be drawn
    assert [len(axes.patches) for axes in figure.axes[:4]] == [2, 1, 1, 1]
    assert figure.axes[0].patches[0].get_bbox().bounds == (2, 3, 10, 20)
    assert [patch.get_linestyle() for patch in figure.axes[0].patches] == ["-", "--"]
    (nothing,) = figure.axes[5].texts
    assert "best 0.25" in nothing.get_text()


def test_without_the_data_set_pictures_are_empty_and_with_it_they_are_there(pictures: Path):
    empty = drawn_found()
    assert not any(axes.images for axes in empty.axes)
    figure = drawn_found(pictures)
    assert all(len(axes.images) == 1 for axes in figure.axes)
    assert figure.axes[0].images[0].get_array()[0, 0].tolist() == [255, 0, 0]
    assert figure.axes[4].images[0].get_array()[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_picture_that_cannot_be_drawn_is_named(pictures: Path, content: bytes | None):
    path = pictures / "val2017" / "7.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match=r"val2017/7\.png"):
        drawn_found(pictures)


def test_two_backends_are_compared_by_average_precision_and_losses():
    first, second = experiment(), experiment(backend="keras")
    (comparison,) = compare([first, second])
    assert [row.first.mean for row in comparison.rows] == pytest.approx([30.5, 20.5, 10.5])
    figure = draw_comparison(comparison)
    assert len(figure.axes) == 3 * len(SETTINGS)
    assert all(len(axes.lines) == 2 for axes in figure.axes)


def test_a_detector_and_a_classifier_are_reported_in_one_page(
    tmp_path: Path, classifier: Callable[..., Run]
):
    runs = [*(run(setting) for setting in SETTINGS), classifier("bp", 1.0), classifier("ss", 1.1)]
    report = make_report(gather(runs))
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "AP75 (%)" in page
    assert "Top-1 validation error (%)" in page
    assert [section.experiment.task for section in report.sections] == [
        "detection",
        "classification",
    ]


@pytest.fixture
def classifier() -> Callable[..., Run]:
    """Return a run of imagenette with a constant loss."""

    def make(setting: str, loss: float, seed: int = 0) -> Run:
        metrics = {"loss": loss, "error": 0.5, "top5_error": 0.1}
        epoch = Epoch(
            epoch=0, lr=1, train=metrics, validation=metrics, diagnostics={}, seconds=1, ended=1
        )
        record = Record(
            recipe=RECIPES[f"imagenette/resnet18-{setting}"],
            overrides={},
            seed=seed,
            backend="torch",
            status="complete",
            epochs=(epoch,),
            predictions=(0,) * 10,
            labels=(0,) * 10,
        )
        return Run(record, {"loss": np.full(100, loss)})

    return make


def test_the_terminal_shows_precision(capsys: pytest.CaptureFixture[str]):
    assert "AP 30.00 %" in summary_line(run("bp").record)
    with console.capture() as captured:
        print_section(make_report([experiment()]).sections[0])
    shown = captured.get()
    assert "AP50" in shown
    assert "Val. error" not in shown


def test_events_leave_out_a_precision_that_does_not_exist(tmp_path: Path):
    write_events(tmp_path / "events", run("bp").record.epochs)
    content = (tmp_path / "events").read_bytes()  # which has tags as they are
    assert b"ap/validation" in content
    assert b"regression/train" in content
    assert b"ap_small/validation" not in content
