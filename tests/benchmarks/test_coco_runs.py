"""Runs of detectors: what they keep, how they go on, and that both backends train the same one."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# First: TensorFlow, imported before PyTorch, can make PyTorch's import crash.
import antiparallel.benchmarks.steppers.pytorch
from antiparallel.benchmarks.data import Batch
from antiparallel.benchmarks.models.retinanet import RETINANET
from antiparallel.benchmarks.recipes import RECIPES, Recipe, override
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import Stepper, build_stepper
from antiparallel.benchmarks.train import Data, open_dataset, train
from antiparallel.spec import SpecError

from .conftest import as_options, both_backends
from .data.conftest import write_coco, write_tree

assert antiparallel.benchmarks.steppers.pytorch

Result = Callable[[Path], tuple[str, bytes]]
Command = Callable[..., subprocess.Popen[str]]
SMALL = {
    "epochs": "2",
    "steps_per_epoch": "2",
    "batch_size": "2",
    "training_pictures": "3",
    "checkpoint_every": "1",
    "lr_drops": "1.5",
}
PARTS = ("loss", "classification", "regression")
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco")


def recipe(setting: str = "ss", **changes: str) -> Recipe:
    return override(RECIPES[f"coco-tiny/retinanet-{setting}"], SMALL | changes)


def first_batch(coco: Path, settings: Recipe) -> list[Batch]:
    dataset = open_dataset(settings, Data(coco))
    return list(dataset.train_batches(seed=0, epoch=0, start=0, stop=1, batch_size=2))


@both_backends
def test_a_run_keeps_every_loss_the_average_precision_and_what_was_found(
    tmp_path: Path, coco: Path, backend: str
):
    record = train(recipe(), seed=0, out=tmp_path, backend=backend, data=Data(coco))
    assert record.status == "complete"
    folder = RunFolder(tmp_path)
    losses = folder.read_losses()
    assert {name: len(found) for name, found in losses.items()} == dict.fromkeys(PARTS, 4)
    total, *parts = (np.array(losses[name]) for name in PARTS)
    np.testing.assert_allclose(total, sum(parts), rtol=4 * EPS)
    for number, epoch in enumerate(record.epochs):
        for name in PARTS:
            means = losses[name][2 * number : 2 * number + 2]
            assert epoch.train[name] == pytest.approx(np.mean(means), rel=4 * EPS)
        assert set(epoch.validation) == {
            *PARTS,
            *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
        }
        assert list(epoch.diagnostics) == list(RETINANET.layers)
    assert record.labels == record.predictions == ()
    shown = folder.read_shown()
    assert shown is not None
    assert all(picture.objects for picture in shown.pictures)
    pictures = {picture.image: picture for picture in shown.pictures}
    for found in folder.read_detections():
        left, top, width, height = found.bbox
        assert left + width <= pictures[found.image_id].width * (1 + EPS)
        assert top + height <= pictures[found.image_id].height * (1 + EPS)
        assert found.category_id in shown.categories
        assert 0.05 < found.score <= 1


@both_backends
def test_a_stopped_run_ends_bit_for_bit_as_if_it_had_not_been(
    tmp_path: Path, coco: Path, result: Result, backend: str
):
    settings = recipe("fa", steps_per_epoch="3", epochs="1", lr_drops="")
    for name, moments in (("whole", (99,)), ("parts", (2, 99))):
        for count in moments:
            asked = iter(range(100))
            train(
                settings,
                seed=0,
                out=tmp_path / name,
                backend=backend,
                data=Data(coco),
                resume=True,
                stop=lambda asked=asked, count=count: next(asked) >= count,
            )
    assert result(tmp_path / "parts") == result(tmp_path / "whole")


def steppers(settings: Recipe, coco: Path) -> tuple[Stepper, Stepper]:
    dataset = open_dataset(settings, Data(coco))
    torch, keras = (build_stepper(name, settings, 3, dataset) for name in ("torch", "keras"))
    return torch, keras


@pytest.mark.engine
@pytest.mark.parametrize("setting", ["bp", "ss", "fa"])
def test_both_backends_take_the_same_first_steps(coco: Path, setting: str):
    settings = recipe(setting)
    batches = first_batch(coco, settings)
    # Each of 17 layers in a row adds up to 512 * 9 numbers, and the losses those of all anchors.
    tolerance = 17 * 512 * 9 * EPS
    trained = [stepper.train(batches, 1e-6, {}) for stepper in steppers(settings, coco)]
    for name in PARTS:
        ours, theirs = (one.losses[name] for one in trained)
        assert theirs == pytest.approx(ours, rel=tolerance)
    assert trained[0].sums["examples"] == trained[1].sums["examples"] == 2


def test_a_detector_learns_its_pictures_by_heart(tmp_path: Path, coco: Path):
    settings = recipe(
        "bp", epochs="1", steps_per_epoch="60", checkpoint_every="60", lr_drops="", lr="0.004"
    )
    record = train(settings, seed=0, out=tmp_path, data=Data(coco))
    losses = RunFolder(tmp_path).read_losses()["loss"]
    assert np.mean(losses[-6:]) < 0.5 * losses[0]
    assert record.epochs[-1].validation["ap50"] > 0
    assert RunFolder(tmp_path).read_detections()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of the backbone's network, whose normalisation a detector freezes."""
    root = tmp_path_factory.mktemp("backbone")
    # Updates enough for the running statistics that will be frozen, and too small to undo them
    small = {"epochs": "13", "batch_size": "6", "threads": "1", "lr_drops": "", "lr": "1e-4"}
    sides = {"size": "96", "resize": "96"}
    settings = override(RECIPES["imagenette/resnet18-ss"], small | sides)
    train(settings, seed=0, out=root / "run", data=Data(write_tree(root / "pictures")))
    return root / "run"


def test_two_processes_train_a_detector_as_one_does(
    tmp_path: Path, coco: Path, backbone: Path, command: Command
):
    # One update: a second one would begin from weights that differ, and rectifiers tip over.
    once = {"epochs": "1", "steps_per_epoch": "1", "lr_drops": "", "lr": "1e-9"}
    options = as_options(SMALL | once | {"backbone": str(backbone)})
    for name, devices in (("one", "1"), ("two", "2")):
        process = command(
            *("train", "coco-tiny/retinanet-ss", "--data", str(coco), *options),
            *("--devices", devices, "--out", name),
        )
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint
    one, two = (RunFolder(tmp_path / name) for name in ("one", "two"))
    ours, theirs = one.read_losses(), two.read_losses()
    # The longest sums are those of a weight's gradient, over the cells of all levels and pictures.
    tolerance = 4 * 17 * 2 * 40 * 40 * EPS
    for name in PARTS:
        assert ours[name] == pytest.approx(theirs[name], rel=tolerance)
    records = [folder.read_record() for folder in (one, two)]
    for name in PARTS:
        ours, theirs = (record.epochs[-1].validation[name] for record in records)
        assert ours == pytest.approx(theirs, rel=tolerance)
    # The gradients
    ours, theirs = (
        np.concatenate([a.ravel() for name, a in sorted(state.items()) if "momentum" in name])
        for state in (folder.load().state for folder in (one, two))
    )
    assert len(ours) > 10**6
    assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)
    assert records[0].data == records[1].data
    assert "imagenette/resnet18-ss" in records[0].data["backbone"]


def test_a_detector_does_not_begin_with_a_backbone_that_is_not_there(tmp_path: Path, coco: Path):
    with pytest.raises(SpecError, match="Received: backbone='nowhere'"):
        train(recipe(backbone="nowhere"), seed=0, out=tmp_path / "run", data=Data(coco))
    assert not (tmp_path / "run").exists()


def test_a_tier_of_detectors_is_reproduced_and_reported(
    tmp_path: Path, coco: Path, command: Command
):
    settings = as_options(SMALL | {"epochs": "1", "lr_drops": ""})
    process = command(
        *("reproduce", "coco-tiny", "--backend", "torch", "--seeds", "1"),
        *("--data", str(coco), "--workers", "1", "--out", "tiny", *settings),
    )
    output, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert "AP" in output
    report = json.loads((tmp_path / "tiny" / "report" / "report.json").read_text())
    (experiment,) = report["experiments"]
    assert experiment["model"] == "retinanet"
    assert {setting["setting"] for setting in experiment["settings"]} == {"bp", "ss", "fa"}
