"""A run on pictures, killed or told to stop while other processes decode for it."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_driver import drive

from antiparallel.benchmarks.recipes import RECIPES, Recipe
from antiparallel.benchmarks.run_folder import RunFolder

from .conftest import as_options
from .data.conftest import write_tree

Result = Callable[[Path], tuple[str, bytes]]
Command = Callable[..., subprocess.Popen[str]]
SMALL = {"epochs": 2, "batch_size": 4, "checkpoint_every": 2, "threads": 1}
SETS = as_options(SMALL)
HOURS = ("--set", "epochs=100000")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("data") / "pictures")


def recipe() -> Recipe:
    """Return the CIFAR-10 tier's recipe, made small, with a convnet in ResNet-18's place."""
    convnet = {"model": "convnet", "depth": 2, "width": 4}
    return Recipe.model_validate(RECIPES["cifar10/resnet18-fa"].model_dump() | SMALL | convnet)


@pytest.mark.parametrize(
    ("backend", "alone", "helped"),
    [
        ("torch", ["update", "write"] * 4, ["write", "update"] * 4),
        pytest.param("keras", ["update"], ["write"], marks=pytest.mark.engine),  # compiles anew
    ],
)
def test_killed_at_seeded_moments_it_ends_bit_for_bit_as_if_never_killed(
    tmp_path: Path,
    pictures: Path,
    result: Result,
    backend: str,
    alone: list[str],
    helped: list[str],
):
    chance = random.Random(f"moments for {backend}")
    moments = {"update": lambda: chance.randrange(3), "write": lambda: chance.randrange(5, 30)}
    runs = {
        name: [(kind, moments[kind]()) for kind in kinds]
        for name, kinds in (("alone", alone), ("helped", helped))
    }
    ends, _ = drive(
        tmp_path,
        recipe(),
        {**runs, "whole": []},
        backend,
        data=str(pictures),
        workers={"alone": 0, "helped": 2, "whole": 0},
    )
    for name in runs:
        assert ends[name].count(signal.SIGKILL) > len(runs[name]) / 2
        assert ends[name][-1] == 0
        assert result(tmp_path / name) == result(tmp_path / "whole")


def begin(command: Command, folder: Path, pictures: Path, backend: str) -> subprocess.Popen[str]:
    where = ("--data", str(pictures), "--workers", "2", "--out", folder.name, "--backend", backend)
    return command("train", "cifar10/resnet18-fa", *where, *SETS, *HOURS)


def require_stopped(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Check that a process saves and ends, and all that write to its pipes do."""
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Stopped and saved" in complaint
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    ("backend", "number"),
    [
        ("torch", signal.SIGINT),
        ("torch", signal.SIGTERM),
        pytest.param("keras", signal.SIGTERM, marks=pytest.mark.engine),
    ],
)
def test_a_signal_ends_the_step_saves_and_leaves_no_process(
    tmp_path: Path,
    command: Command,
    pictures: Path,
    backend: str,
    number: signal.Signals,
):
    process = begin(command, tmp_path / "run", pictures, backend)
    while not list((tmp_path / "run" / "checkpoints").glob("update-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, number)  # to all, as terminals and schedulers do
    require_stopped(process, number)
    record = RunFolder(tmp_path / "run").read_record()
    assert record.status == "stopped"
    checkpoint = RunFolder(tmp_path / "run").load()
    assert checkpoint.position.history == record.epochs


def test_ctrl_c_while_the_decoding_processes_start_leaves_no_word_too_many(
    tmp_path: Path, command: Command, pictures: Path
):
    process = begin(command, tmp_path / "run", pictures, "torch")
    while not (tmp_path / "run" / "record.json").exists():  # they start with the first batch
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    require_stopped(process, signal.SIGINT)
