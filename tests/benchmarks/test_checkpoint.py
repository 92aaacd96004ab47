"""A checkpoint is whole or not there; a damaged one is noticed."""

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


@pytest.mark.parametrize("name", ["state.safetensors", "position.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, name: str, damage: str):
    save_checkpoint(tmp_path, checkpoint(1))
    newest = save_checkpoint(tmp_path, checkpoint(2)) / name
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 255
    if damage == "missing":
        newest.unlink()
    else:
        newest.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    assert load_checkpoint(tmp_path).position.updates == 1


def test_only_damaged_checkpoints_are_an_error_not_a_fresh_start(tmp_path: Path):
    (save_checkpoint(tmp_path, checkpoint(1)) / "state.safetensors").unlink()
    with pytest.raises(SpecError, match="checksum"):
        load_checkpoint(tmp_path)


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
