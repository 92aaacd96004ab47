"""A run whose loss is no longer finite ends there: its last good weights are kept, and no more."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from antiparallel.benchmarks.recipes import RECIPES, override
from antiparallel.benchmarks.report.results import gather
from antiparallel.benchmarks.report.runs import Run
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.train import train

from .conftest import as_options, both_backends

Command = Callable[..., subprocess.Popen[str]]
DIVERGED = 3
# Weight decay times the learning rate is 100: every update makes weights a hundred times larger.
ABSURD = {"lr": "1e6", "weight_decay": "1e-4", "depth": "2", "width": "4", "checkpoint_every": "2"}
SETS = as_options(ABSURD)


def require_kept(folder: Path) -> None:
    """Check that the run is marked, that its checkpoint is from before, and good to go on from."""
    record = RunFolder(folder).read_record()
    assert record.status == "diverged"
    assert record.diverged_at is not None
    checkpoint = RunFolder(folder).load()
    assert checkpoint is not None
    assert 0 < checkpoint.position.updates <= record.diverged_at
    assert all(np.isfinite(array).all() for array in checkpoint.state.values())
    assert np.isfinite(checkpoint.position.losses["loss"]).all()
    (experiment,) = gather([Run(record)])
    (setting,) = experiment.settings
    assert setting.diverged == (0,)
    assert not setting.runs  # so that it is neither best nor in a mean


@both_backends
def test_the_last_good_weights_are_kept_and_the_run_does_not_go_on(tmp_path: Path, backend: str):
    recipe = override(RECIPES["digits/convnet-ss"], ABSURD)
    train(recipe, seed=0, out=tmp_path, backend=backend)
    require_kept(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert train(recipe, seed=0, out=tmp_path, backend=backend, resume=True).status == "diverged"
    assert {path: path.read_bytes() for path in before} == before


def test_the_command_says_so_by_its_exit_code(tmp_path: Path, command: Command):
    process = command("train", "digits/convnet-ss", "--out", "run", *SETS)
    output, complaint = process.communicate()
    assert process.returncode == DIVERGED, complaint
    assert "diverged" in output
    assert "Traceback" not in complaint
    require_kept(tmp_path / "run")
