"""A checkpoint is whole or not there; a damaged one is noticed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from antiparallel.benchmarks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from antiparallel.benchmarks.record import Position
from antiparallel.spec import SpecError


def checkpoint(updates: int) -> Checkpoint:
    state = {"w": np.full((2, 3), updates, np.float32), "n": np.array(updates, np.uint64)}
    return Checkpoint(Position(updates=updates, sums={"loss": 0.1 * updates}), state)


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path: Path):
    saved = checkpoint(3)
    save_checkpoint(tmp_path, saved)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.position == saved.position
    assert loaded.state.keys() == saved.state.keys()
    for name, array in saved.state.items():
        assert loaded.state[name].dtype == array.dtype
        assert loaded.state[name].shape == array.shape
        assert loaded.state[name].tobytes() == array.tobytes()


def test_arrays_come_back_whatever_their_place_in_memory(tmp_path: Path):
    array = np.arange(24.0).reshape(2, 3, 4)
    state = {"transposed": array.T, "strided": array[:, ::2], "number": np.array(3)}
    save_checkpoint(tmp_path, Checkpoint(Position(updates=1), state))
    found = load_checkpoint(tmp_path)
    assert found is not None
    for name, expected in state.items():
        assert found.state[name].shape == expected.shape
        assert (found.state[name] == expected).all()


def test_no_checkpoint_is_none(tmp_path: Path):
    assert load_checkpoint(tmp_path / "missing") is None


def test_the_newest_two_are_kept(tmp_path: Path):
    for updates in (5, 20, 100):
        save_checkpoint(tmp_path, checkpoint(updates))
    assert sorted(os.listdir(tmp_path)) == ["update-000000020", "update-000000100"]
    assert load_checkpoint(tmp_path).position.updates == 100


@pytest.fixture
def newest(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path, checkpoint(1))
    return save_checkpoint(tmp_path, checkpoint(2))


def require_damage(newest: Path, name: str, reason: str) -> None:
    """Check that the checkpoint is refused by file and reason, and gives way to the other."""
    with pytest.raises(SpecError, match=f"Received: {newest.name}/{name}: {reason}") as refusal:
        load_checkpoint(newest.parent)
    assert "--previous-checkpoint to go on from update-000000001" in str(refusal.value)
    found = load_checkpoint(newest.parent, previous=True)
    assert found is not None
    assert found.position == checkpoint(1).position
    assert (found.state["w"] == 1).all()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("state.safetensors", "differs from its checksum"),
        ("position.json", "(differs from|Invalid JSON|.+: )"),
    ],
)
def test_every_byte_that_is_flipped_is_noticed(newest: Path, name: str, reason: str):
    path = newest / name
    content = path.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        require_damage(newest, name, reason)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("state.safetensors", r"has \d+ bytes, not the \d+ written"),
        ("position.json", "Invalid JSON: EOF while parsing"),
    ],
)
def test_a_file_cut_short_anywhere_is_noticed(newest: Path, name: str, reason: str):
    path = newest / name
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        require_damage(newest, name, reason)


@pytest.mark.parametrize("name", ["state.safetensors", "position.json"])
def test_a_missing_file_is_noticed(newest: Path, name: str):
    (newest / name).unlink()
    require_damage(newest, name, "No such file or directory")


def test_the_files_of_another_moment_are_noticed(tmp_path: Path, newest: Path):
    for name in ("state.safetensors", "position.json"):
        content = (newest / name).read_bytes()
        (newest / name).write_bytes((tmp_path / "update-000000001" / name).read_bytes())
        reasons = {"state.safetensors": "differs", "position.json": "is of another checkpoint"}
        require_damage(newest, name, reasons[name])
        (newest / name).write_bytes(content)


@pytest.mark.parametrize("lie", [{"updates": -2}, {"step": -1}, {"epoch": 0.5}, {"epoch": 1e400}])
def test_a_position_that_cannot_be_is_refused(newest: Path, lie: dict[str, float]):
    path = newest / "position.json"
    manifest = json.loads(path.read_text())
    manifest["position"] |= lie
    path.write_text(json.dumps(manifest))
    require_damage(newest, "position.json", f"position.{next(iter(lie))}: Input should be ")


def test_only_damaged_checkpoints_are_an_error_not_a_fresh_start(newest: Path):
    for path in newest.parent.iterdir():
        (path / "state.safetensors").unlink()
    for previous in (False, True):
        with pytest.raises(SpecError, match=r"update-000000002/state\.safetensors: No such file"):
            load_checkpoint(newest.parent, previous=previous)


def test_going_on_from_the_one_before_leaves_the_damaged_one_behind(newest: Path):
    (newest / "position.json").unlink()
    save_checkpoint(newest.parent, checkpoint(1))
    assert os.listdir(newest.parent) == ["update-000000001"]


def test_a_checkpoint_that_cannot_be_read_back_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_checkpoint(tmp_path, checkpoint(1))

    def lose_a_byte(path: Path, content: bytes) -> None:
        path.write_bytes(content[:-1] if path.suffix == ".safetensors" else content)

    monkeypatch.setattr("antiparallel.benchmarks.checkpoint.write_atomically", lose_a_byte)
    with pytest.raises(OSError, match="read back"):
        save_checkpoint(tmp_path, checkpoint(2))
    assert load_checkpoint(tmp_path).position.updates == 1


def test_leftovers_of_a_killed_save_are_swept_and_never_loaded(tmp_path: Path):
    save_checkpoint(tmp_path, checkpoint(1)).rename(tmp_path / ".writing-update-000000009")
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, checkpoint(2))
    assert os.listdir(tmp_path) == ["update-000000002"]
