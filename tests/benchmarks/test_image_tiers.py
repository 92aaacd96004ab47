"""Tiers of pictures on disk: the same networks, numbers and pictures in both backends."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# First: TensorFlow, imported before PyTorch, can make PyTorch's import crash.
import antiparallel.benchmarks.steppers.pytorch
from antiparallel.benchmarks.data.images import Images
from antiparallel.benchmarks.models.resnet18 import layer_names
from antiparallel.benchmarks.recipes import RECIPES, Recipe, override
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import Stepper, build_stepper
from antiparallel.benchmarks.train import Data, open_dataset, train
from antiparallel.spec import SpecError

from .conftest import as_options
from .data.conftest import write_tree

assert antiparallel.benchmarks.steppers.pytorch

SMALL = {"epochs": "1", "batch_size": "6", "checkpoint_every": "2", "threads": "1"}
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("data") / "pictures", train=9, validation=4)


def recipe(name: str, **changes: str) -> Recipe:
    return override(RECIPES[f"imagenette/{name}"], SMALL | changes)


def names_in_keras(model: str) -> dict[str, str]:
    """Return the record's names of weight layers and Keras's."""
    if model == "resnet18":
        return {
            ours: theirs if theirs == "predictions" else f"backbone/{theirs}"
            for theirs, ours in layer_names().items()
        }
    names = [*(f"conv{number}" for number in range(1, 6)), "fc1", "fc2", "fc"]
    return dict(zip(names, names, strict=True))


def canonical(array: np.ndarray) -> np.ndarray:
    """Return a kernel of Keras in PyTorch's layout."""
    return array.transpose(*(3, 2, 0, 1) if array.ndim == 4 else (1, 0))


def both(settings: Recipe, pictures: Path) -> tuple[Stepper, Stepper, Images]:
    dataset = open_dataset(settings, Data(pictures))
    assert isinstance(dataset, Images)
    torch, keras = (build_stepper(name, settings, 3, dataset) for name in ("torch", "keras"))
    return torch, keras, dataset


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "rule"),
    [("resnet18", "fa"), ("resnet18", "ss-fixed"), ("resnet18", "fa-sign"), ("alexnet", "fa")],
)
def test_weights_and_feedback_are_the_same_bits_in_both_backends(
    pictures: Path, name: str, rule: str
):
    settings = recipe(f"{name}-ss", rule=rule, setting="mine", overrides="fc:bp")
    torch, keras, _ = both(settings, pictures)
    ours, theirs = torch.state(), keras.state()
    kept = "magnitude" if rule == "ss-fixed" else "feedback"
    for layer, keras_s in names_in_keras(name).items():
        weight = canonical(theirs[f"model/{keras_s}/0"])
        assert (weight == ours[f"model.{layer}.weight"]).all(), layer
        if layer != "fc":
            feedback = canonical(theirs[f"model/{keras_s}.feedback/kernel_{kept}"])
            assert (feedback == ours[f"model.{layer}.{kept}"]).all(), layer
    assert list(keras.diagnostics()) == list(torch.diagnostics())
    assert f"model.fc.{kept}" not in ours


@pytest.mark.engine
@pytest.mark.parametrize("name", ["resnet18-ss", "alexnet-fa"])
def test_both_backends_take_the_same_first_step(pictures: Path, name: str):
    torch, keras, dataset = both(recipe(name), pictures)
    batches = list(dataset.train_batches(seed=0, epoch=0, start=0, stop=2, batch_size=6))
    # Each of 21 layers adds up to 512 * 9, or 9216, numbers, in other orders
    tolerance = 21 * 9216 * EPS
    sums = [stepper.train(batches[:1], 1e-6, {}).sums for stepper in (torch, keras)]
    assert sums[1]["loss"] == pytest.approx(sums[0]["loss"], rel=tolerance)
    for name in ("error", "top5_error", "examples"):
        assert sums[1][name] == sums[0][name]
    evaluations = [s.evaluate(dataset.validation_batches(5)) for s in (torch, keras)]
    losses = [evaluation.metrics["loss"] for evaluation in evaluations]
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
    assert len(evaluations[0].predictions) == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_does_not_depend_on_who_decodes_its_pictures(
    tmp_path: Path, pictures: Path, result: Callable[[Path], tuple[str, bytes]], workers: int
):
    settings = recipe("resnet18-ss")
    for name, data in (("one", Data(pictures)), ("other", Data(pictures, workers))):
        record = train(settings, seed=0, out=tmp_path / name, data=data)
        assert record.status == "complete"
    assert record.data["train"] == "18 pictures"
    assert str(pictures) not in record.model_dump_json(exclude={"sessions"})
    assert {"loss", "error", "top5_error"} == record.epochs[0].validation.keys()
    assert result(tmp_path / "one") == result(tmp_path / "other")


def test_a_stopped_run_goes_on_only_with_the_same_pictures(
    tmp_path: Path, pictures: Path, result: Callable[[Path], tuple[str, bytes]]
):
    settings, other = recipe("resnet18-fa"), write_tree(tmp_path / "other", train=10)
    asked = iter(range(100))
    data = Data(pictures)

    def stop() -> bool:
        return next(asked) >= 2

    assert train(settings, seed=0, out=tmp_path / "run", data=data, stop=stop).status == "stopped"
    with pytest.raises(SpecError, match="Expected a folder with the same data"):
        train(settings, seed=0, out=tmp_path / "run", data=Data(other), resume=True)
    train(settings, seed=0, out=tmp_path / "run", data=data, resume=True)
    train(settings, seed=0, out=tmp_path / "whole", data=data)
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_a_model_library_that_is_not_installed_is_named(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(SpecError, match=r"pip install torchvision\. .*model='resnet18'"):
        train(recipe("resnet18-ss"), seed=0, out=tmp_path / "run", data=Data(pictures))
    assert not (tmp_path / "run").exists()


def test_the_command_trains_and_names_a_broken_picture(tmp_path: Path, pictures: Path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        sets = as_options(SMALL)
        program = "from antiparallel.benchmarks.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", program, "train", "imagenette/resnet18-ss", *arguments, *sets],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
            capture_output=True,
            text=True,
        )

    answer = run("--data", str(pictures), "--workers", "1", "--out", "run")
    assert answer.returncode == 0, answer.stderr
    assert RunFolder(tmp_path / "run").read_record().status == "complete"
    broken = write_tree(tmp_path / "broken")
    (broken / "train" / "flower" / "001.JPEG").write_bytes(b"")
    answer = run("--data", str(broken), "--out", "refused")
    assert answer.returncode == 2
    assert "Received: train/flower/001.JPEG: empty file" in answer.stderr
    assert not (tmp_path / "refused").exists()
    answer = run("--data", str(broken), "--skip-bad-images", "1", "--out", "skipped")
    assert answer.returncode == 0, answer.stderr
    assert "001.JPEG" in RunFolder(tmp_path / "skipped").read_record().data["skipped"]
