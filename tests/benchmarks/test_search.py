"""``antiparallel search-lr``: one recipe at several learning rates."""

import json
import subprocess
from collections.abc import Callable
from math import nan
from pathlib import Path

import pytest

from antiparallel.benchmarks.recipes import Recipe, find_recipe, override
from antiparallel.benchmarks.record import Epoch, Record
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.search import plan_search, tried
from antiparallel.benchmarks.train import NO_DATA

Command = Callable[..., subprocess.Popen[str]]
ERROR = "validation_error_percent"
TINY = ["--set", "epochs=1", "--set", "depth=2", "--set", "width=4"]


def test_rates_are_tried_and_told_the_best_first(tmp_path: Path, command: Command):
    arguments = ["search-lr", "digits/convnet-bp", "--rates", "0.1, 1e-6", "--out", "found", *TINY]
    process = command(*arguments)
    output, complaint = process.communicate()
    assert process.returncode == 0, complaint
    folder = tmp_path / "found"
    for rate in (0.1, 1e-6):
        record = RunFolder(folder / f"lr-{rate}" / "seed-0").read_record()
        assert (record.status, record.recipe.lr) == ("complete", rate)
        assert record.overrides["lr"] == str(rate)
    found = json.loads((folder / "search.json").read_text())
    assert [one["rate"] for one in found["rates"]] == [0.1, 1e-6]
    assert found["rates"][0][ERROR]["mean"] < found["rates"][1][ERROR]["mean"]
    assert "search-lr" in found["command"]
    assert "0.1" in output


def test_rates_that_hardly_differ_have_folders_of_their_own_and_all_go_on_as_asked(tmp_path: Path):
    recipe = override(find_recipe("digits/convnet-bp"), {"epochs": "1"})
    jobs = plan_search(
        recipe, [0.1, 0.1000000001], backend="torch", seeds=2, out=tmp_path,
        data=NO_DATA, overrides={}, previous_checkpoint=True,
    )  # fmt: skip
    assert len({job.out for job in jobs}) == 4
    assert all(job.previous_checkpoint for job in jobs)


def test_the_lowest_error_comes_first_and_what_diverged_last(tiny: Callable[..., Recipe]):
    def run(rate: float, seed: int, error: float | None) -> Record:
        epoch = Epoch(
            epoch=0, lr=rate, train={"loss": 1.0}, validation={"error": error or 0.0},
            diagnostics={}, seconds=1, ended=1,
        )  # fmt: skip
        return Record(
            recipe=tiny(lr=rate), overrides={}, seed=seed, backend="torch",
            status="diverged" if error is None else "complete", epochs=(epoch,),
        )  # fmt: skip

    runs = [(0.1, 0, None), (0.01, 0, 0.5), (0.01, 1, 0.7), (0.05, 0, 0.4), (0.05, 1, None)]
    found = tried(run(*one) for one in runs)
    assert [one.rate for one in found] == [0.05, 0.01, 0.1]
    assert [one.score.n for one in found] == [1, 2, 0]
    assert [one.diverged for one in found] == [1, 0, 1]
    assert found[1].score.mean == pytest.approx(60)


def test_detectors_are_ranked_by_precision_and_equal_ones_by_their_loss():
    def run(rate: float, ap: float, loss: float) -> Record:
        epoch = Epoch(
            epoch=0, lr=rate, train={"loss": loss}, validation={"ap": ap},
            diagnostics={}, seconds=1, ended=1,
        )  # fmt: skip
        recipe = override(find_recipe("coco-tiny/retinanet-ss"), {"lr": str(rate)})
        return Record(
            recipe=recipe, overrides={}, seed=0, backend="torch", status="complete", epochs=(epoch,)
        )

    runs = [(0.1, 0.0, 3.0), (0.05, 0.0, 2.0), (0.01, 0.25, 4.0), (0.001, nan, 1.0)]
    found = tried(run(*one) for one in runs)
    assert [one.rate for one in found] == [0.01, 0.05, 0.1, 0.001]
    assert found[0].measure.name == "ap"
    assert found[0].score.mean == 25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rates", "0.1,fast"], "Received: --rates 0.1,fast"),
        (["--rates", "0.1,0.1"], "Received: rates=[0.1, 0.1]"),
        (["--rates", "-1"], "Received: lr='-1.0'"),
        (["--set", "lr=0.1"], "--set lr=0.1"),
        (["--seeds", "0"], "Received: seeds=0"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_written(
    tmp_path: Path, command: Command, arguments: list[str], message: str
):
    process = command("search-lr", "digits/convnet-bp", "--out", "found", *arguments)
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert message in complaint.replace("\n", "")
    assert not (tmp_path / "found").exists()
