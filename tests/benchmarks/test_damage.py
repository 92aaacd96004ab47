"""A run whose newest checkpoint is damaged goes on only if the user says from where."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from antiparallel.benchmarks.compare import compare_runs
from antiparallel.benchmarks.recipes import RECIPES, override, tier_recipes
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import engine_of
from antiparallel.benchmarks.train import never, train
from antiparallel.spec import SpecError

Command = Callable[..., subprocess.Popen[str]]
Result = Callable[[Path], tuple[str, bytes]]
SIZE = {"depth": "2", "width": "4", "epochs": "1", "checkpoint_every": "5"}
SETS = [part for field, text in SIZE.items() for part in ("--set", f"{field}={text}")]

on_both = pytest.mark.parametrize(
    "backend",
    [
        "torch",
        pytest.param(
            "keras",
            marks=[
                pytest.mark.engine,
                # Keras asks TensorFlow's variables for arrays in the way before NumPy 2.
                pytest.mark.filterwarnings("ignore:__array__ implementation"),
            ],
        ),
    ],
)


def begin(folder: Path, backend: str, updates: int | None = None) -> Path:
    """Train, to the end or as many updates; return where the newest checkpoint is."""
    asked = iter(range(1000))
    rounds = 0 if updates is None else updates // 5  # after which it is asked too
    stop = never if updates is None else lambda: next(asked) >= updates + rounds
    recipe = override(RECIPES["digits/convnet-fa"], SIZE)
    train(recipe, seed=0, out=folder, backend=backend, stop=stop)
    return sorted((folder / "checkpoints").iterdir())[-1]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@on_both
def test_it_is_refused_by_name_and_goes_on_from_the_one_before_if_asked(
    tmp_path: Path, command: Command, result: Result, backend: str
):
    begin(tmp_path / "whole", backend)
    newest = begin(tmp_path / "run", backend, updates=12)
    assert newest.name == "update-000000012"
    flip(newest / "state.safetensors")
    record = (tmp_path / "run" / "record.json").read_bytes()
    line = ("train", "digits/convnet-fa", "--backend", backend, "--out", "run", "--resume", *SETS)

    process = command(*line)
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert "update-000000012/state.safetensors: differs from its checksum" in complaint
    assert "--previous-checkpoint to go on from update-000000010" in complaint
    assert "Traceback" not in complaint
    assert (tmp_path / "run" / "record.json").read_bytes() == record

    process = command(*line, "--previous-checkpoint")
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert result(tmp_path / "run") == result(tmp_path / "whole")
    sessions = RunFolder(tmp_path / "run").read_record().sessions
    assert [session.from_update for session in sessions] == [0, 10]
    assert sessions[1].versions["engine" if engine_of(backend) else "torch"]


def test_a_tier_goes_on_from_the_one_before_if_asked(
    tmp_path: Path, command: Command, result: Result
):
    runs = tmp_path / "tier" / "runs" / "torch"
    for recipe in tier_recipes("digits"):
        folder = runs / f"convnet-{recipe.setting}" / "seed-0"
        train(override(recipe, SIZE), seed=0, out=folder)
    damaged = runs / "convnet-fa" / "seed-0"
    whole = tmp_path / "whole"
    shutil.move(damaged, whole)
    (begin(damaged, "torch", updates=7) / "position.json").unlink()
    mark = {"tier": "digits", "overrides": SIZE}
    (tmp_path / "tier" / "reproduce.json").write_text(repr(mark).replace("'", '"'))
    line = ("reproduce", "digits", "--backend", "torch", "--seeds", "1", "--out", "tier", *SETS)

    process = command(*line)
    _, complaint = process.communicate()
    assert process.returncode == 2, complaint
    assert "update-000000007/position.json: No such file or directory" in complaint
    process = command(*line, "--previous-checkpoint")
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert result(damaged) == result(whole)


def test_a_folder_that_was_never_committed_is_no_damage(tmp_path: Path, result: Result):
    newest = begin(tmp_path / "run", "torch", updates=7)
    writing = newest.with_name(".writing-update-000000010")
    writing.mkdir()
    (writing / "state.safetensors").write_bytes(b"half")
    recipe = override(RECIPES["digits/convnet-fa"], SIZE)
    record = train(recipe, seed=0, out=tmp_path / "run", resume=True)
    assert record.status == "complete"
    begin(tmp_path / "whole", "torch")
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_a_comparison_names_the_damage(tmp_path: Path):
    for name in ("one", "other"):
        flip(begin(tmp_path / name, "torch", updates=7) / "state.safetensors")
    with pytest.raises(SpecError, match=r"update-000000007/state\.safetensors: differs"):
        compare_runs(tmp_path / "one", tmp_path / "other")
