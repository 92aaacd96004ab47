"""The report of the image tiers, from records made here: no run of them fits a test."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from antiparallel.benchmarks.recipes import RECIPES, SETTINGS, Recipe, override
from antiparallel.benchmarks.record import Epoch, LayerDiagnostics, Record
from antiparallel.benchmarks.report.departures import departures
from antiparallel.benchmarks.report.pages import make_report, write_report
from antiparallel.benchmarks.report.published import (
    METRICS,
    PAPERS_TIER,
    REFERENCES,
    beside,
    references,
)
from antiparallel.benchmarks.report.results import Experiment, gather
from antiparallel.benchmarks.report.runs import Run

FINAL = {"bp": 31.0, "ss": 36.0, "ss-lastbp": 35.0, "fa": 85.0, "fa-lastbp": 80.0}
LAYERS = [f"layer{number}" for number in range(21)]


def record(recipe: Recipe, seed: int = 0, *, top5: bool = True, epochs: int = 3) -> Record:
    """Return a run that approaches its setting's final error, a point worse with each seed."""
    final = FINAL[recipe.setting] + seed
    return Record(
        recipe=recipe,
        overrides={},
        seed=seed,
        backend="torch",
        status="complete",
        data={"train": "900 pictures", "validation": "100 pictures"},
        epochs=tuple(_epoch(number, final, epochs, top5) for number in range(epochs)),
        predictions=(0,) * 100,
    )


def _epoch(number: int, final: float, epochs: int, top5: bool) -> Epoch:
    error = (final + 5 * (epochs - 1 - number)) / 100
    metrics = {"loss": error, "error": error} | ({"top5_error": error / 3} if top5 else {})
    diagnostics = {
        layer: LayerDiagnostics(angle=40 + place + number, kurtosis=1.0, magnitude=final / 1000)
        for place, layer in enumerate(LAYERS)
    }
    return Epoch(
        epoch=number, lr=0.1, train=metrics, validation=metrics, diagnostics=diagnostics,
        seconds=1, ended=1,
    )  # fmt: skip


def experiment(tier: str, seeds: int = 2, *, top5: bool = True) -> Experiment:
    recipes = [RECIPES[f"{tier}/resnet18-{setting}"] for setting in SETTINGS]
    (gathered,) = gather(
        [Run(record(recipe, seed, top5=top5)) for recipe in recipes for seed in range(seeds)]
    )
    return gathered


class Images(HTMLParser):
    """The sources of a page's images, and whatever else a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.fetched: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.sources.append(dict(attrs)["src"] or "")
        if tag in ("script", "link", "iframe"):
            self.fetched.append(tag)


def test_an_image_tier_is_reported_without_its_pictures_in_one_page(tmp_path: Path):
    written = write_report(make_report([experiment("imagenette")]), tmp_path)
    figures = {
        f"imagenette-resnet18-torch-{name}.{form}"
        for name in ("curves", "diagnostics", "courses")
        for form in ("png", "svg")
    }
    assert {path.name for path in written} == figures | {"report.html", "report.md", "report.json"}
    assert all(path.stat().st_size for path in written)
    page = Images((tmp_path / "report.html").read_text())
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not page.fetched


def test_the_same_runs_give_the_same_files(tmp_path: Path):
    first, second = (
        write_report(make_report([experiment("imagenette", seeds=1)]), tmp_path / name)
        for name in ("first", "second")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_published_errors_are_subtracted_only_from_imagenets():
    for tier, difference in (("imagenet", 31.5 - 30.39), ("imagenette", None)):
        row = next(row for row in beside(experiment(tier)) if row.setting == "bp")
        biotorch = row.cells[[one.name for one in references("classification")].index("BioTorch")]
        assert row.ours.mean == pytest.approx(31.5)
        assert biotorch.percent == 30.39
        assert biotorch.difference == (None if difference is None else pytest.approx(difference))


def test_another_tier_and_an_unverified_number_are_called_so(tmp_path: Path):
    write_report(make_report([experiment("imagenette")]), tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "not verified" in text
        assert "another experiment" in text
    (found,) = json.loads((tmp_path / "report.json").read_text())["experiments"]
    cells = [cell for row in found["published"] for cell in row["references"].values()]
    assert all(cell["difference"] is None for cell in cells)


def test_every_published_number_belongs_to_a_recipe():
    for reference in REFERENCES:
        for (model, setting, metric), percent in reference.percentages.items():
            assert f"{PAPERS_TIER[reference.task]}/{model}-{setting}" in RECIPES
            assert metric in METRICS[reference.task]
            assert 0 < percent < 100


def test_a_record_without_top5_is_reported_by_its_top1(tmp_path: Path):
    old = experiment("imagenette", top5=False)
    assert {row.measure.name for row in beside(old)} == {"error"}
    report = make_report([old])
    assert len(report.sections[0].figures["curves"].axes) == 1
    write_report(report, tmp_path)
    (found,) = json.loads((tmp_path / "report.json").read_text())["experiments"]
    assert found["settings"][0]["validation_top5_error_percent"]["mean"] is None


def test_curves_show_top1_and_top5_training_and_validation():
    axes = make_report([experiment("imagenette")]).sections[0].figures["curves"].axes
    assert [panel.get_title(loc="left") for panel in axes] == ["Top-1 error (%)", "Top-5 error (%)"]
    assert all(len(panel.lines) == 2 * len(SETTINGS) for panel in axes)


def test_the_papers_own_setting_differs_in_nothing():
    assert departures(experiment("imagenet")) == []


def test_what_a_tier_changes_is_listed_with_both_values_and_the_settings():
    found = {departure.field: departure for departure in departures(experiment("imagenette")) or []}
    assert (found["size"].paper, found["size"].ours) == ("224", "64")
    assert found["size"].settings == tuple(SETTINGS)
    assert found["lr"].settings == ("bp",)  # others have the paper's 0.05
    assert (found["data"].paper, found["data"].ours) == ("imagenet", "imagenette")
    assert not {"device", "threads", "checkpoint_every"} & found.keys()


def test_an_override_of_the_papers_setting_is_listed():
    changed = override(RECIPES["imagenet/resnet18-ss"], {"epochs": "3"})
    (found,) = departures(gather([Run(record(changed))])[0]) or []
    assert (found.field, found.paper, found.ours) == ("epochs", "50", "3")


def test_a_network_that_the_paper_does_not_have_is_compared_with_nothing():
    (digits,) = gather([Run(record(RECIPES["digits/convnet-bp"]))])
    assert departures(digits) is None
    assert beside(digits) == []


def test_a_layers_course_is_its_mean_over_seeds():
    result = experiment("imagenette", seeds=3).settings[0]
    assert result.courses("angle")[:, 2] == pytest.approx([42, 43, 44])
    expected = np.mean([FINAL["bp"] + seed for seed in range(3)]) / 1000
    assert result.courses("magnitude") == pytest.approx(np.full((3, len(LAYERS)), expected))
