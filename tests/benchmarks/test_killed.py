"""A run that is killed, with SIGKILL and at any moment, ends as if it had never stopped."""

import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from kill_driver import drive
from tensorboardX.proto.event_pb2 import Event

from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import engine_of

Result = Callable[[Path], tuple[str, bytes]]
Command = Callable[..., subprocess.Popen[str]]
SIZE = ["--set", "epochs=2", "--set", "depth=3", "--set", "width=4", "--set", "checkpoint_every=5"]
LONG = ["--set", "epochs=500"]


def events(folder: Path) -> list[Event]:
    """Read an event file's records: length, its checksum, event, its checksum."""
    (path,) = (folder / "events").iterdir()
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack_from("<Q", content)
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[12 + length + 4 :]
    return found


@pytest.mark.parametrize("rule", ["fa", "ss-batch"])
@pytest.mark.parametrize(
    ("backend", "updates", "writes"),
    [
        ("torch", 3, 9),
        pytest.param("keras", 2, 3, marks=pytest.mark.engine),  # whose processes compile anew
    ],
)
def test_killed_at_seeded_moments_a_run_ends_bit_for_bit_as_if_never_killed(
    tmp_path: Path,
    tiny: Callable[..., Recipe],
    result: Result,
    backend: str,
    updates: int,
    writes: int,
    rule: str,
):
    recipe = tiny("fa", rule=rule)
    chance = random.Random(f"moments for {rule}")
    moments = [("update", chance.randrange(4)) for _ in range(updates)]
    moments += [("write", chance.randrange(1, 25)) for _ in range(writes)]
    chance.shuffle(moments)
    ends, _ = drive(tmp_path, recipe, {"killed": moments, "whole": []}, backend)
    assert ends["killed"].count(signal.SIGKILL) > len(moments) / 2
    assert ends["killed"][-1] == 0
    assert ends["whole"] == [0]
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
    assert RunFolder(tmp_path / "killed").read_record().engine == engine_of(backend)


def test_killed_before_each_step_of_a_save_a_run_ends_as_if_never_killed(
    tmp_path: Path, tiny: Callable[..., Recipe], result: Result
):
    recipe = tiny("ss-lastbp", epochs=1, checkpoint_every=3)
    moments = {str(step): [("write", step)] for step in range(50)}
    ends, _ = drive(tmp_path, recipe, {**moments, "whole": []})
    killed = [name for name in moments if ends[name] == [signal.SIGKILL, 0]]
    assert len(killed) > 30
    assert len(killed) < len(moments)  # so that every step of the run was among them
    whole = result(tmp_path / "whole")
    for name in killed:
        assert result(tmp_path / name) == whole, f"killed before step {name} of writing"


def test_events_of_a_killed_run_are_those_of_a_run_that_was_not(
    tmp_path: Path, tiny: Callable[..., Recipe]
):
    recipe = tiny("bp")
    drive(tmp_path, recipe, {"killed": [("update", 5), ("write", 20), ("write", 3)], "whole": []})
    killed, whole = events(tmp_path / "killed"), events(tmp_path / "whole")
    assert killed[0].file_version == whole[0].file_version == "brain.Event:2"
    assert [event.step for event in killed] == [0, 1, 2]
    assert [event.summary for event in killed] == [event.summary for event in whole]
    tags = {value.tag: value.simple_value for value in killed[2].summary.value}
    last = RunFolder(tmp_path / "killed").read_record().epochs[-1]
    assert tags["error/validation"] == pytest.approx(last.validation["error"], rel=1e-7)
    assert tags["angle/conv1"] == pytest.approx(last.diagnostics["conv1"].angle, rel=1e-7)


def begin(command: Command, folder: Path, more: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start ``antiparallel train`` and return when it has committed a checkpoint."""
    process = command("train", "digits/convnet-fa", "--resume", "--out", folder.name, *SIZE, *more)
    before = set((folder / "checkpoints").glob("update-*"))
    while set((folder / "checkpoints").glob("update-*")) <= before and process.poll() is None:
        time.sleep(0.01)
    return process


def test_the_command_killed_from_outside_goes_on_to_the_same_result(
    tmp_path: Path, command: Command, result: Result
):
    for _ in range(2):
        process = begin(command, tmp_path / "killed")
        process.kill()
        process.communicate()
    for name in ("killed", "whole"):
        process = begin(command, tmp_path / name)
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
    assert len(RunFolder(tmp_path / "killed").read_record().sessions) > 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_run_and_the_exit_code_says_so(
    tmp_path: Path, command: Command, number: signal.Signals
):
    process = begin(command, tmp_path / "run", LONG)
    process.send_signal(number)
    _, complaint = process.communicate()
    assert process.returncode == 128 + number
    assert "Stopped and saved" in complaint
    assert RunFolder(tmp_path / "run").read_record().status == "stopped"


def test_a_second_process_is_refused_at_once_and_a_dead_ones_lock_is_recovered(
    tmp_path: Path, command: Command
):
    holder = begin(command, tmp_path / "run", LONG)
    holder.send_signal(signal.SIGSTOP)  # it may sleep as long as it likes
    # Refused before anything is looked at that takes time: these pictures are not there.
    process = command("train", "digits/convnet-fa", "--out", "run", "--data", "missing")
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert f"process {holder.pid} (-c train digits/convnet-fa --resume --out run" in complaint
    assert complaint.endswith("Received: folder='run'\n")
    holder.kill()
    holder.communicate()
    lock = tmp_path / "run" / "lock"
    assert lock.read_text().startswith(f"{holder.pid} ")
    with RunFolder(tmp_path / "run").held():
        assert lock.read_text().startswith(f"{os.getpid()} ")
