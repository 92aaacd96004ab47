"""Two processes train one run as one process would, and end together however they end."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shared_work
import torch
import torch.multiprocessing as mp
from shared_work import LR, RULES, SEED, SIZE, UPDATES, WAYS, recipe
from torch.nn import functional as F

import antiparallel.torch as ap
from antiparallel.benchmarks.data import Part, digits
from antiparallel.benchmarks.models.pytorch import build as build_model
from antiparallel.benchmarks.processes import ALONE, ALONE_HERE, Place, find_place
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import join
from antiparallel.benchmarks.steppers import pytorch
from antiparallel.spec import SpecError

from .conftest import as_options

Result = Callable[[Path], tuple[str, bytes]]
Command = Callable[..., subprocess.Popen[str]]
State = dict[str, np.ndarray]
LONG = ("--set", "epochs=10000", "--set", "checkpoint_every=2")

# The longest sums are those of a weight's gradient, over all pixels of a batch. Two processes add
# them up in another order than one, in each of four layers and of the updates.
TOLERANCE = 4 * UPDATES * 8 * 8 * SIZE["batch_size"] * float(np.finfo(np.float32).eps)

both_ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let two processes do all of ``shared_work``, and return the folder with what they found."""
    folder = tmp_path_factory.mktemp("found")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch, "build_model", shared_work.without_normalisation)
        shared_work.go_on(folder / "runs" / "handed-on", ALONE, shared_work.After(3))
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("localhost", 0))
        ports = (one.getsockname()[1], other.getsockname()[1])
    mp.spawn(shared_work.work, (ports, folder), nprocs=2)
    return folder


def told(found: Path, way: str, name: str, rank: int = 0) -> dict[str, Any]:
    return json.loads((found / f"rank{rank}" / way / f"{name}.json").read_text())


def state(found: Path, way: str, name: str, rank: int = 0) -> State:
    with np.load(found / f"rank{rank}" / way / f"{name}.npz") as arrays:
        return dict(arrays)


def assert_near(ours: State, theirs: State, start: State) -> None:
    """Assert that two trainings moved every array alike."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        if ours[name].dtype != np.float32:
            assert (ours[name] == theirs[name]).all()
            continue
        moved = np.linalg.norm(theirs[name] - start.get(name, 0))
        assert np.linalg.norm(ours[name] - theirs[name]) <= TOLERANCE * moved, name


@both_ways
@pytest.mark.parametrize("rule", RULES)
def test_losses_and_weights_are_those_of_one_process(
    found: Path, monkeypatch: pytest.MonkeyPatch, way: str, rule: str
):
    monkeypatch.setattr(pytorch, "build_model", shared_work.without_normalisation)
    start = pytorch.build(recipe(rule), SEED, digits()).state()
    alone = shared_work.learn(recipe(rule))
    ours = told(found, way, rule)
    assert ours["losses"] == pytest.approx(alone["losses"], rel=TOLERANCE)
    assert ours["sums"]["examples"] == alone["sums"]["examples"] == UPDATES * SIZE["batch_size"]
    assert ours["sums"]["error"] == pytest.approx(alone["sums"]["error"], abs=1)
    assert ours["angles"] == pytest.approx(alone["angles"], rel=TOLERANCE)
    assert_near(state(found, way, rule), alone["state"], start)


@both_ways
def test_each_process_normalises_its_part_and_running_statistics_are_averaged(
    found: Path, way: str
):
    start = pytorch.build(recipe("ss"), SEED, digits()).state()
    losses, theirs = halves_normalised_apart()
    assert told(found, way, "normalised")["losses"] == pytest.approx(losses, rel=TOLERANCE)
    ours = {
        name.removeprefix("model."): array
        for name, array in state(found, way, "normalised").items()
        if name.startswith("model.")
    }
    assert_near(ours, theirs, {name.removeprefix("model."): start[name] for name in start})


def halves_normalised_apart() -> tuple[list[float], State]:
    """Train in one process, by the definition: the two halves of a batch one after the other.

    The loss is the mean of theirs; each begins with the same running statistics, and the next
    batch with the mean of what they make of them.
    """
    model = build_model(recipe("ss"), 1, 10)
    ap.initialize(ap.convert(model, "ss", seed=SEED), seed=SEED)
    settings = recipe("ss")
    optimizer = ap.SGD(
        model.parameters(),
        lr=LR,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    losses = []
    for batch in shared_work.batches():
        pixels = (batch.images.astype(np.float32) - digits().mean[0]) / digits().deviation[0]
        images, labels = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor(batch.labels)
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        after, loss = [], 0.0
        optimizer.zero_grad()
        for half in (slice(0, 100), slice(100, 200)):
            model.load_state_dict(before, strict=False)
            part = F.cross_entropy(model(images[half]), labels[half]) / 2
            part.backward()
            loss += part.item()
            after.append({name: buffer.clone() for name, buffer in model.named_buffers()})
        means = {name: (after[0][name] + after[1][name]) / 2 for name in before}
        model.load_state_dict(means, strict=False)
        optimizer.step()
        losses.append(loss)
    return losses, {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@both_ways
@pytest.mark.parametrize("name", ["normalised", *RULES])
def test_both_processes_hold_the_same_bits(found: Path, way: str, name: str):
    ours, theirs = (state(found, way, name, rank) for rank in range(2))
    assert ours.keys() == theirs.keys()
    assert all(ours[entry].tobytes() == theirs[entry].tobytes() for entry in ours)
    assert told(found, way, name, 0)["losses"] == told(found, way, name, 1)["losses"]


@both_ways
def test_feedback_costs_no_message(found: Path, way: str):
    messages = {rule: told(found, way, rule)["messages"] for rule in RULES}
    assert messages["bp"]
    assert all(messages[rule] == messages["bp"] for rule in RULES)


@both_ways
def test_messages_are_the_same_in_every_update(found: Path, way: str):
    messages = told(found, way, "normalised")["messages"]
    each = len(messages) // (UPDATES - 1)
    assert messages == messages[:each] * (UPDATES - 1)


@both_ways
def test_every_validation_picture_counts_once_in_its_place(found: Path, way: str):
    assert len(digits().validation.labels) % 7 == 1  # a last batch for one process of the two
    alone = shared_work.evaluate(7)
    assert len(set(alone["predictions"])) > 3
    for rank in range(2):
        ours = told(found, way, "odd", rank)
        assert ours["predictions"] == alone["predictions"]
        assert ours["metrics"] == pytest.approx(alone["metrics"], rel=TOLERANCE)
        assert ours["metrics"]["error"] == alone["metrics"]["error"]


@both_ways
def test_a_stop_asked_of_one_process_stops_both_and_resumes_bit_for_bit(
    found: Path, result: Result, way: str
):
    runs = found / "runs"
    record = RunFolder(runs / f"parts-{way}").read_record()
    assert [session.from_update for session in record.sessions] == [0, 3]
    assert record.sessions[0].versions["processes"].startswith("2 ")
    assert result(runs / f"parts-{way}") == result(runs / f"whole-{way}")


def test_a_run_goes_on_with_any_number_of_processes(
    found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pytorch, "build_model", shared_work.without_normalisation)
    start = pytorch.build(recipe(), SEED, digits()).state()
    for folder in (found / "runs" / "handed-on", tmp_path / "alone"):
        shared_work.go_on(folder, ALONE, shared_work.After(np.inf))
    ours, theirs = (RunFolder(path) for path in (found / "runs" / "handed-on", tmp_path / "alone"))
    assert [session.from_update for session in ours.read_record().sessions] == [0, 2, 4, 6]
    assert ours.read_losses()["loss"] == pytest.approx(
        theirs.read_losses()["loss"], rel=2 * TOLERANCE
    )
    assert_near(ours.load().state, theirs.load().state, start)


@both_ways
def test_a_refusal_is_everybodys_and_makes_no_folder(found: Path, way: str):
    for name, message in (
        ("refused", "Received: batch_size=201"),
        ("apart", "Received: batch_size=5000"),
        ("other", "lr 0.05, not 1.0"),
        ("unwritable", "record.json/below"),
    ):
        texts = [told(found, way, name, rank)["text"].partition(": ") for rank in range(2)]
        assert message in texts[0][2]
        assert texts[0][2] == texts[1][2]
    assert not list(found.glob("rank*/*/uneven"))


def test_a_signal_to_one_process_of_the_command_ends_all_and_the_run_goes_on(
    found: Path, tmp_path: Path, command: Command, result: Result
):
    settings = as_options(SIZE)
    shared = ["train", "digits/convnet-fa", "--seed", str(SEED), "--devices", "2", *settings]
    arguments = [*shared, "--out", "run", "--resume"]
    process = command(*arguments)
    os.kill(leader(process, tmp_path / "run"), signal.SIGTERM)
    _, complaint = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert complaint.count("Stopped and saved") == 1
    assert RunFolder(tmp_path / "run").read_record().status == "stopped"
    process = command(*arguments)
    output, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert output.count("complete") == 1
    assert result(tmp_path / "run") == result(found / "runs" / "whole-replicated")
    session = RunFolder(tmp_path / "run").read_record().sessions[0]
    assert session.command.startswith("antiparallel train digits/convnet-fa")


def leader(process: subprocess.Popen[str], folder: Path) -> int:
    """Return the number of the process that holds a run's folder, after its first checkpoint."""
    while not list(folder.glob("checkpoints/update-*")) and process.poll() is None:
        time.sleep(0.01)
    found = int((folder / "lock").read_text().split()[0])
    assert found != process.pid
    return found


def test_a_process_of_the_command_that_is_killed_ends_all_as_a_shell_would_say_it(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = command("train", "digits/convnet-fa", "--devices", "2", *LONG, "--out", "run")
    os.kill(leader(process, tmp_path / "run"), signal.SIGKILL)
    process.communicate()
    assert process.returncode == 128 + signal.SIGKILL
    assert not list(temporary.glob("torchelastic*"))


SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "rack3n[07-09,12],rack4n01",
    "SLURM_JOB_ID": "1234567",
}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, ALONE_HERE),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, ALONE_HERE),
        (SLURM | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, ALONE_HERE),
        (SLURM, Place(Part(5, 8), 1, "rack3n07", 19567)),
        (SLURM | {"SLURM_STEP_NODELIST": "n[1,3]-ib"}, Place(Part(5, 8), 1, "n1-ib", 19567)),
        (SLURM | {"SLURM_STEP_NODELIST": "gpu-a,gpu-b"}, Place(Part(5, 8), 1, "gpu-a", 19567)),
        (
            SLURM | {"MASTER_ADDR": "head", "MASTER_PORT": "29500"},
            Place(Part(5, 8), 1, "head", 29500),
        ),
        (
            SLURM
            | {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}
            | {"MASTER_ADDR": "head", "MASTER_PORT": "29500"},
            Place(Part(3, 4), 0, "head", 29500),
        ),
    ],
    ids=[
        "none",
        "batch script",
        "shell",
        "srun",
        "suffix",
        "plain names",
        "given",
        "torchrun within",
    ],
)
def test_a_process_finds_its_place_in_its_launchers_environment(
    environment: dict[str, str], place: Place
):
    assert find_place(environment) == place


@pytest.mark.parametrize(
    ("environment", "received"),
    [
        ({"RANK": "0"}, "RANK="),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK="),
        ({"RANK": "-1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK="),
        (SLURM | {"MASTER_PORT": "tcp"}, "MASTER_PORT='tcp'"),
    ],
)
def test_an_environment_that_no_launcher_makes_is_refused(
    environment: dict[str, str], received: str
):
    with pytest.raises(SpecError, match=f"Received: {received}"):
        find_place(environment)


@pytest.mark.parametrize(
    ("place", "settings", "message"),
    [
        (ALONE_HERE, {"sharded": True}, "several devices"),
        (Place(Part(0, 4), 0, "localhost", 1), {"devices": 2}, "Received: devices=2"),
    ],
)
def test_devices_that_do_not_fit_their_launcher_are_refused(
    place: Place, settings: dict[str, Any], message: str
):
    with pytest.raises(SpecError, match=message), join("torch", recipe(), place, **settings):
        pass


@pytest.mark.parametrize("device", ["cuda:1", "abacus"])
def test_a_device_that_all_processes_would_take_is_refused(device: str):
    place = Place(Part(0, 2), 0, "localhost", 1)
    refused = join("torch", recipe(device=device), place)
    with pytest.raises(SpecError, match=f"Received: device='{device}'"), refused:
        pass
