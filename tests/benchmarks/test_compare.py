"""``antiparallel compare``: two runs side by side."""

import json
import sys
from collections.abc import Callable
from math import comb, inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiparallel.benchmarks import cli
from antiparallel.benchmarks.checkpoint import Checkpoint
from antiparallel.benchmarks.compare import compare_runs, write_comparison
from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.recipes import RECIPES, Recipe
from antiparallel.benchmarks.record import Epoch, LayerDiagnostics, Position, Record
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import State
from antiparallel.benchmarks.terminal import print_runs
from antiparallel.spec import SpecError

Make = Callable[..., Path]
KERNEL = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
DENSE = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32)
LABELS = tuple(digits().validation.labels.tolist())
NOTHING = LayerDiagnostics(angle=40, kurtosis=0, magnitude=1)


def as_torch(kernel: np.ndarray = KERNEL, **more: np.ndarray) -> State:
    state = {"model.fc.weight": DENSE, "model.conv1.weight": kernel, "optimizer.0.momentum": DENSE}
    return state | {f"model.{name.replace('__', '.')}": value for name, value in more.items()}


def as_keras(kernel: np.ndarray = KERNEL) -> State:
    """Return the same weights in Keras's names and layouts: (height, width, in, out), (in, out)."""
    return {
        "model/net/conv1/0": np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)),
        "model/fc/0": np.ascontiguousarray(DENSE.T),
    }


@pytest.fixture
def make(tmp_path: Path, tiny: Callable[..., Recipe]) -> Make:
    """Write a run's folder: a record with given losses and answers, and a checkpoint."""

    def write(
        name: str,
        state: State | None = None,
        losses: tuple[float, ...] = (2.0, 1.0),
        predictions: tuple[int, ...] = (),
        data: dict[str, str] | None = None,
        updates: tuple[float, ...] = (),
        recipe: Recipe | None = None,
        **changes: Any,
    ) -> Path:
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        metrics = [{"loss": loss, "error": loss / 10} for loss in losses]
        epochs = tuple(
            Epoch(
                epoch=number,
                lr=1,
                train=found,
                validation=found,
                diagnostics={"conv1": NOTHING, "fc": NOTHING},
                seconds=1,
                ended=1,
            )
            for number, found in enumerate(metrics)
        )
        folder.write_record(
            Record(
                recipe=recipe or tiny(**changes),
                overrides={},
                seed=0,
                backend="torch",
                data=data or {},
                status="complete",
                epochs=epochs,
                predictions=predictions,
                labels=LABELS,
            )
        )
        folder.write_losses(0, {"loss": updates[:2]})
        folder.write_losses(1, {"loss": updates[2:]})
        if state is not None:
            folder.save(Checkpoint(Position(epoch=2, updates=8), state))
        return folder.path

    return write


def test_a_run_does_not_differ_from_itself(make: Make):
    run = make("run", as_torch(), predictions=tuple(digits().validation.labels.tolist()))
    found = compare_runs(run, run)
    assert found.parted is None
    assert [(tensor.relative, tensor.same_signs) for tensor in found.tensors] == [(0, 1), (0, 1)]
    assert found.alone == []
    assert found.answers is not None
    assert (found.answers.different, found.answers.p) == (0, 1)


def test_the_first_epoch_that_differs_is_found_and_by_how_much(make: Make):
    found = compare_runs(make("a", losses=(2.0, 1.0, 0.5)), make("b", losses=(2.0, 1.25)))
    assert found.parted == 1
    assert [epoch.train["loss"] for epoch in found.epochs] == [0, 0.25]


def test_the_first_update_whose_losses_differ_is_found(make: Make):
    run = make("a", updates=(2.0, 1.0, 0.5, 0.5))
    same = compare_runs(run, make("b", updates=(2.0, 1.0, 0.5))).losses.get("loss")
    assert same is not None
    assert (same.updates, same.parted, same.parted_by_percent, same.largest) == (3, None, None, 0)
    other = compare_runs(run, make("c", updates=(2.0, 1.0 + 1e-7, 0.502, 0.25))).losses.get("loss")
    assert other is not None
    assert (other.parted, other.parted_by_percent) == (1, 3)
    assert other.largest == 0.5


def test_every_kind_of_loss_and_metric_of_a_detector_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def write(name: str, boxes: float, ap: float) -> Path:
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        losses = {"loss": 1.0 + boxes, "classification": 1.0, "regression": boxes}
        epoch = Epoch(
            epoch=0, lr=1, train=losses, validation=losses | {"ap": ap, "ap_small": nan},
            diagnostics={}, seconds=1, ended=1,
        )  # fmt: skip
        recipe = RECIPES["coco-tiny/retinanet-bp"]
        folder.write_record(
            Record(recipe=recipe, overrides={}, seed=0, backend="torch", epochs=(epoch,))
        )
        folder.write_losses(0, {name: [loss] for name, loss in losses.items()})
        return folder.path

    found = compare_runs(write("a", 0.5, 0.25), write("b", 0.625, 0.125))
    parted = {name: losses.parted for name, losses in found.losses.items()}
    assert parted == {"loss": 0, "classification": None, "regression": 0}
    assert found.epochs[0].validation == {
        "loss": 0.125, "classification": 0, "regression": 0.125, "ap": -0.125,
    }  # fmt: skip
    print_runs(found)
    shown = capsys.readouterr().out
    assert "-12.5" in shown
    assert "Regression losses of 1 updates" in shown


def test_a_precision_that_neither_run_has_is_no_difference(make: Make):
    run = make("a", losses=(2.0,))
    record = RunFolder(run).read_record()
    (epoch,) = record.epochs
    without = epoch.model_copy(update={"validation": epoch.validation | {"ap_small": nan}})
    RunFolder(run).write_record(record.model_copy(update={"epochs": (without,)}))
    assert compare_runs(run, run).parted is None


def test_losses_of_zero_are_compared_too(make: Make):
    run = make("a", updates=(1.0, 0.0, 0.0))
    same = compare_runs(run, make("b", updates=(1.0, 0.0, 0.0))).losses.get("loss")
    assert same is not None
    assert (same.parted, same.largest) == (None, 0)
    other = compare_runs(run, make("c", updates=(1.0, 0.0, 1e-9))).losses.get("loss")
    assert other is not None
    assert (other.parted, other.parted_by_percent, other.largest) == (2, 2, inf)


def test_runs_that_kept_no_losses_are_compared_without(make: Make):
    assert compare_runs(make("a"), make("b")).losses == {}


def test_distances_are_relative_and_signs_are_counted_first_layer_first(make: Make):
    other = KERNEL.copy()
    other[0] *= -1  # a quarter of the entries change sign
    found = compare_runs(make("a", as_torch()), make("b", as_torch(other)))
    kernel, dense = found.tensors
    assert (kernel.name, dense.name) == ("conv1.weight", "fc.weight")
    exact = KERNEL.astype(np.float64)
    expected = 2 * np.sqrt((exact[0] ** 2).sum() / (exact**2).sum())
    assert kernel.relative == pytest.approx(expected, rel=KERNEL.size * np.finfo(np.float64).eps)
    assert kernel.same_signs == 0.75
    assert found.updates == (8, 8)


def test_layers_are_matched_across_backends(make: Make):
    found = compare_runs(make("torch", as_torch()), make("keras", as_keras()))
    assert [(tensor.name, tensor.relative) for tensor in found.tensors] == [
        ("conv1.weight", 0),
        ("fc.weight", 0),
    ]
    assert found.alone == []


@pytest.mark.parametrize(
    ("torch_name", "keras_name"),
    [
        ("conv1.feedback", "model/conv1.feedback/kernel_feedback"),
        ("layer2.0.downsample.0.weight", "model/backbone/stack1_block0_0_conv/0"),
    ],
)
def test_feedback_and_kerashubs_layers_have_torchs_names(
    make: Make, torch_name: str, keras_name: str
):
    one = make("torch", {f"model.{torch_name}": KERNEL})
    other = make("keras", {keras_name: np.ascontiguousarray(KERNEL.transpose(2, 3, 1, 0))})
    (tensor,) = compare_runs(one, other).tensors
    assert (tensor.name, tensor.relative) == (torch_name, 0)


@pytest.mark.parametrize(
    ("torch_name", "keras_name"),
    [
        (
            "backbone.body.layer2.0.downsample.0.weight",
            "model/pyramid/backbone/stack1_block0_0_conv/0",
        ),
        (
            "head.classification_head.conv.0.0.feedback",
            "model/classification_head/conv2d_0.feedback/kernel_feedback",
        ),
        ("head.regression_head.bbox_reg.weight", "model/box_head/logits_layer/0"),
    ],
)
def test_a_detectors_layers_have_torchvisions_names(make: Make, torch_name: str, keras_name: str):
    recipe = RECIPES["coco-tiny/retinanet-fa"]
    one = make("torch", {f"model.{torch_name}": KERNEL}, recipe=recipe)
    kernel = np.ascontiguousarray(KERNEL.transpose(2, 3, 1, 0))
    other = make("keras", {keras_name: kernel}, recipe=recipe)
    (tensor,) = compare_runs(one, other).tensors
    assert (tensor.name, tensor.relative) == (torch_name, 0)


def test_what_only_one_run_keeps_is_named(make: Make):
    found = compare_runs(
        make("ss", as_torch()), make("fa", as_torch(conv1__feedback=KERNEL), setting="fa")
    )
    assert found.alone == ["conv1.feedback"]
    assert found.recipe["rule"] == ("ss", "fa")


def test_without_a_checkpoint_the_rest_is_compared(make: Make):
    found = compare_runs(make("a"), make("b", as_torch()))
    assert found.updates is None
    assert len(found.epochs) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"epochs": 3}, "epochs: 2 and 3"), ({"data": {"train": "7 pictures"}}, "7 pictures")],
)
def test_runs_of_different_experiments_are_refused_unless_any_will_do(
    make: Make, changes: dict[str, Any], message: str
):
    one, other = make("a"), make("b", **changes)
    with pytest.raises(SpecError, match=message):
        compare_runs(one, other)
    assert len(compare_runs(one, other, anything=True).epochs) == 2


def test_mcnemars_test_is_exact(make: Make):
    labels = digits().validation.labels
    first, second = labels.copy(), labels.copy()
    first[:3] = (labels[:3] + 1) % 10  # only the second is right on 3
    second[3:13] = (labels[3:13] + 1) % 10  # only the first on 10
    first[20], second[20] = (labels[20] + 1) % 10, (labels[20] + 2) % 10  # neither, differently
    found = compare_runs(
        make("a", predictions=tuple(first.tolist())), make("b", predictions=tuple(second.tolist()))
    ).answers
    assert found is not None
    assert (found.pictures, found.different) == (len(labels), 14)
    assert (found.first_only, found.second_only) == (10, 3)
    expected = 2 * sum(comb(13, k) for k in range(4)) / 2**13
    assert found.p == pytest.approx(expected, rel=1e-12)


def test_numbers_are_written_as_json_with_null_for_what_does_not_exist(make: Make, tmp_path: Path):
    empty = np.zeros_like(KERNEL)
    compared = compare_runs(make("a", as_torch(empty)), make("b", as_torch()))
    found = json.loads(write_comparison(compared, tmp_path / "out").read_text())
    assert found["tensors"][0]["relative"] is None
    assert found["parted"] is None
    assert [run["status"] for run in found["runs"]] == ["complete", "complete"]


def test_the_command_shows_tables_and_refuses_in_one_message(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["antiparallel", "compare", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    one, other = str(make("a", as_torch())), str(make("b", as_keras(), losses=(2.0, 1.5)))
    longer = str(make("c", epochs=3))
    assert run(one, other, "--out", str(tmp_path / "out")) == 0
    output = capsys.readouterr().out
    for shown in ("in epoch 2", "conv1.weight", "+0.5", "comparison.json"):
        assert shown in output
    assert run(one, longer, "--out", str(tmp_path / "refused")) == 2
    refused = capsys.readouterr()
    assert "epochs: 2 and 3" in refused.err
    assert not refused.out
    assert not (tmp_path / "refused").exists()
    assert run(one, longer, "--any") == 0
