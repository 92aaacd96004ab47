"""A run whose newest checkpoint is damaged goes on only if the user says from where."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiparallel.benchmarks.checkpoint import Checkpoint
from antiparallel.benchmarks.compare import compare_runs
from antiparallel.benchmarks.recipes import RECIPES, override
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.reproduce import plan, run_jobs
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.signals import Signals
from antiparallel.benchmarks.train import NO_DATA, never, train
from antiparallel.spec import SpecError

from .conftest import as_options, both_backends

Command = Callable[..., subprocess.Popen[str]]
Result = Callable[[Path], tuple[str, bytes]]
SIZE = {"depth": "2", "width": "4", "epochs": "1", "checkpoint_every": "5"}
RECIPE = override(RECIPES["digits/convnet-fa"], SIZE)
SETS = as_options(SIZE)


def begin(folder: Path, backend: str, updates: int | None = None) -> Path:
    """Train, to the end or as many updates; return where the newest checkpoint is."""
    asked = iter(range(1000))
    rounds = 0 if updates is None else updates // 5  # after which it is asked too
    stop = never if updates is None else lambda: next(asked) >= updates + rounds
    train(RECIPE, seed=0, out=folder, backend=backend, stop=stop)
    return sorted((folder / "checkpoints").iterdir())[-1]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@both_backends
def test_it_is_refused_by_name_and_goes_on_from_the_one_before_if_asked(
    tmp_path: Path, result: Result, backend: str
):
    begin(tmp_path / "whole", backend)
    newest = begin(tmp_path / "run", backend, updates=12)
    assert newest.name == "update-000000012"
    flip(newest / "state.safetensors")
    record = (tmp_path / "run" / "record.json").read_bytes()

    def go_on(previous: bool) -> Record:
        return train(
            RECIPE,
            seed=0,
            out=tmp_path / "run",
            backend=backend,
            resume=True,
            previous_checkpoint=previous,
        )

    with pytest.raises(
        SpecError,
        match="--previous-checkpoint to go on from update-000000010. "
        r"Received: update-000000012/state\.safetensors: differs from its checksum",
    ):
        go_on(previous=False)
    assert (tmp_path / "run" / "record.json").read_bytes() == record
    sessions = go_on(previous=True).sessions
    assert [session.from_update for session in sessions] == [0, 10]
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_the_command_says_so_and_has_the_option(tmp_path: Path, command: Command, result: Result):
    begin(tmp_path / "whole", "torch")
    (begin(tmp_path / "run", "torch", updates=7) / "position.json").unlink()
    line = ("train", "digits/convnet-fa", "--out", "run", "--resume", *SETS)
    process = command(*line)
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert "update-000000007/position.json: No such file or directory" in complaint
    assert "Traceback" not in complaint
    process = command(*line, "--previous-checkpoint")
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_a_tier_goes_on_from_the_one_before_if_asked(tmp_path: Path, result: Result):
    jobs = [
        next(
            job
            for job in plan(
                "digits",
                backends=["torch"],
                seeds=1,
                out=tmp_path / "tier",
                data=NO_DATA,
                overrides=SIZE,
                previous_checkpoint=previous,
            )
            if job.recipe == RECIPE
        )
        for previous in (False, True)
    ]
    flip(begin(jobs[0].out, "torch", updates=7) / "state.safetensors")
    with Signals().caught() as signals:
        with pytest.raises(SpecError, match=r"update-000000007/state\.safetensors: differs"):
            run_jobs(jobs[:1], processes=1, signals=signals, watch=lambda told: None)
        run_jobs(jobs[1:], processes=1, signals=signals, watch=lambda told: None)
    begin(tmp_path / "whole", "torch")
    assert result(jobs[0].out) == result(tmp_path / "whole")


def test_a_folder_that_was_never_committed_is_no_damage(tmp_path: Path, result: Result):
    newest = begin(tmp_path / "run", "torch", updates=7)
    writing = newest.with_name(".writing-update-000000010")
    writing.mkdir()
    (writing / "state.safetensors").write_bytes(b"half")
    record = train(RECIPE, seed=0, out=tmp_path / "run", resume=True)
    assert record.status == "complete"
    begin(tmp_path / "whole", "torch")
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_a_comparison_names_the_damage(tmp_path: Path):
    for name in ("one", "other"):
        flip(begin(tmp_path / name, "torch", updates=7) / "state.safetensors")
    with pytest.raises(SpecError, match=r"update-000000007/state\.safetensors: differs"):
        compare_runs(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize(
    ("lie", "fault"),
    [
        ({"updates": 10**12}, "position"),
        ({"step": 5, "losses": {"loss": (1.0,) * 5}}, "position"),
        ({"updates": 8, "step": 2, "losses": {}}, "position"),
        ({"updates": 8, "step": 2, "losses": {"loss": (1.0,)}}, "position"),
        ({"epoch": 10**6}, "position"),
        ({"history": ()}, "position"),
        ({}, "weight"),
    ],
)
def test_a_whole_checkpoint_that_cannot_be_this_runs_is_refused(
    tmp_path: Path, train_linear: Callable[..., Record], lie: dict[str, Any], fault: str
):
    asked = iter(range(9))
    train_linear(tmp_path / "run", stop=lambda: next(asked, None) is None)
    folder = RunFolder(tmp_path / "run")
    checkpoint = folder.load()
    assert checkpoint is not None
    assert checkpoint.position.epoch == 1
    state = checkpoint.state if lie else checkpoint.state | {"weight": np.zeros((10, 63))}
    folder.save(Checkpoint(checkpoint.position.model_copy(update=lie), state))
    record = (tmp_path / "run" / "record.json").read_bytes()
    with pytest.raises(SpecError, match=f"Expected a checkpoint of .*Received: another {fault}"):
        train_linear(tmp_path / "run")
    assert (tmp_path / "run" / "record.json").read_bytes() == record
