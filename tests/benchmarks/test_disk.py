"""A disk that is full or read-only: one loud message, and nothing lost that was saved before."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_driver import UNWRITABLE, drive

from antiparallel.benchmarks.recipes import RECIPES, Recipe, override
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.train import train

from .conftest import as_options, both_backends

Command = Callable[..., subprocess.Popen[str]]
Result = Callable[[Path], tuple[str, bytes]]
Tiny = Callable[..., Recipe]
SIZE = {"depth": "2", "width": "4", "epochs": "1", "checkpoint_every": "5"}
SETS = as_options(SIZE)
RECIPE = override(RECIPES["digits/convnet-fa"], SIZE)
LINE = ("train", "digits/convnet-fa", "--out", "run", "--resume", *SETS)
FULL = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({}, r.RLIM_INFINITY))"


def begin(folder: Path) -> None:
    """Train for a few updates."""
    asked = iter(range(8))

    def stop() -> bool:
        return next(asked, None) is None

    train(RECIPE, seed=0, out=folder, resume=True, stop=stop)


def finish(folder: Path) -> None:
    """Train to the end."""
    train(RECIPE, seed=0, out=folder, resume=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files that have a name that is read, except the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    named = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: content for name, content in named.items() if "/." not in f"/{name}"}


@pytest.mark.parametrize(
    ("backend", "limits"),
    [
        ("torch", range(0, 10000, 1500)),
        pytest.param("keras", (7000,), marks=pytest.mark.engine),  # whose processes compile
    ],
)
def test_a_disk_that_was_full_costs_a_run_nothing(
    tmp_path: Path, tiny: Tiny, result: Result, backend: str, limits: range
):
    runs = {str(limit): [("full", limit)] for limit in limits}
    ends, complaints = drive(tmp_path, tiny("fa"), {**runs, "whole": []}, backend)
    refused = [name for name in runs if ends[name] == [UNWRITABLE, 0]]
    assert refused
    for name in runs:
        assert ends[name] in ([UNWRITABLE, 0], [0, 0])
        assert result(tmp_path / name) == result(tmp_path / "whole")
    if backend == "torch":
        assert complaints.count("\n") == len(refused)
        assert len(refused) < len(runs)
        for name in ("lock", "record.json", "state.safetensors"):
            assert f"[Errno {errno.EFBIG}] File too large: '{tmp_path}" in complaints
            assert f"{name}'" in complaints


@both_backends
def test_a_checkpoint_that_cannot_be_serialised_costs_a_run_nothing(
    tmp_path: Path, tiny: Tiny, result: Result, backend: str
):
    runs = {"starved": [("state", 1)], "whole": []}
    ends, complaints = drive(tmp_path, tiny("ss", rule="ss-fixed"), runs, backend)
    assert ends["starved"] == [UNWRITABLE, 0]
    assert "no safetensors to write: MemoryError: \n" in complaints
    sessions = RunFolder(tmp_path / "starved").read_record().sessions
    assert [session.from_update for session in sessions] == [0, 2]
    assert result(tmp_path / "starved") == result(tmp_path / "whole")


@pytest.mark.parametrize("draft", [".record.json.draft", "events/.{}.draft", "losses/.{}.draft"])
def test_a_device_without_space_names_the_file_and_leaves_no_half_of_it(
    tmp_path: Path, result: Result, draft: str
):
    begin(tmp_path / "run")
    name = {"events": "events.out.tfevents.antiparallel", "losses": "epoch-0000.json"}
    path = tmp_path / "run" / draft.format(name.get(draft.split("/")[0]))
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=path.name.strip(".").removesuffix(".draft")) as error:
        finish(tmp_path / "run")
    assert error.value.errno == errno.ENOSPC
    path.unlink()
    for folder in ("run", "whole"):
        finish(tmp_path / folder)
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_the_command_ends_in_one_message_and_what_was_saved_is_left(
    tmp_path: Path, command: Command
):
    begin(tmp_path / "run")
    before = contents(tmp_path / "run")
    process = command(*LINE, after=FULL.format(2000))
    _, complaint = process.communicate()
    assert process.returncode == UNWRITABLE
    assert complaint.count("\n") == 1
    assert complaint.startswith("antiparallel: Expected files that can be read and written.")
    assert complaint.endswith("File too large: 'run/record.json'\n")
    assert contents(tmp_path / "run") == before


def test_a_tier_ends_in_one_message_too(tmp_path: Path, command: Command):
    line = ("reproduce", "digits", "--backend", "torch", "--processes", "1", "--seeds", "1", *SETS)
    process = command(*line, "--out", "tier", after=FULL.format(2000))
    _, complaint = process.communicate()
    assert process.returncode == UNWRITABLE
    assert complaint.strip().count("\n") == 0
    assert complaint.endswith("seed-0/record.json'\n")


def test_a_folder_that_is_read_only_is_left_as_it_was(tmp_path: Path):
    begin(tmp_path / "run")
    before = contents(tmp_path / "run")
    folders = [tmp_path / "run", *(path for path in (tmp_path / "run").rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        program = "from antiparallel.benchmarks.cli import main; main()"
        answer = subprocess.run(
            [*without_privileges(), sys.executable, "-c", program, *LINE],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert answer.returncode == UNWRITABLE
    assert answer.stderr.count("\n") == 1
    assert "Permission denied: " in answer.stderr
    assert contents(tmp_path / "run") == before


def without_privileges() -> list[str]:
    """Return what goes before a command so that permissions hold for it, also if root starts it."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("no permission holds for root, and there is no setpriv")
    kept = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={kept}", f"--inh-caps={kept}"]
