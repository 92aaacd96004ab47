"""Checkpoints: safetensors and JSON, committed by one rename, verified after writing."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from antiparallel.benchmarks.files import (
    LARGEST_JSON,
    first_fault,
    read_bounded,
    sync_folder,
    write_atomically,
)
from antiparallel.benchmarks.record import Position
from antiparallel.benchmarks.stepper import State
from antiparallel.spec import SpecError

_STATE, _POSITION = "state.safetensors", "position.json"
_KEEP = 2


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    position: Position
    state_bytes: int
    state_sha256: str
    sha256: str = ""
    """Of everything above."""

    def checksum(self) -> str:
        content = self.model_dump_json(exclude={"sha256"})
        return hashlib.sha256(content.encode()).hexdigest()

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode()


class _DamageError(Exception):
    """A checkpoint's file is not as it was written: which, and why."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path.parent.name}/{path.name}: {reason}")


class Checkpoint(NamedTuple):
    """A moment of a run: how far it is, and all that the next update depends on."""

    position: Position
    state: State


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and drop all but the newest two.

    The files are written and synced in a hidden folder, read back and compared with what they
    should hold, and only then given their name by one rename.

    Args:
        folder: The run's folder of checkpoints.
        checkpoint: What to write.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: The state cannot be written, or what was read back differs. Earlier checkpoints
            are whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    name = _name(checkpoint.position)
    writing = folder / f".writing-{name}"
    writing.mkdir()
    content = _to_safetensors(checkpoint.state)
    manifest = _Manifest(
        position=checkpoint.position,
        state_bytes=len(content),
        state_sha256=hashlib.sha256(content).hexdigest(),
    )
    manifest.sha256 = manifest.checksum()
    write_atomically(writing / _STATE, content)
    write_atomically(writing / _POSITION, manifest.to_json())
    try:
        _read(writing)
    except _DamageError as damage:
        raise OSError(f"read back, it is not what was written: {damage}") from damage
    target = folder / name
    if target.exists():
        _drop(target)
    os.rename(writing, target)
    sync_folder(folder)
    kept = [old for old in _checkpoints(folder) if old.name <= name][-_KEEP:]
    for other in _checkpoints(folder):  # later ones are damaged: we went on from an earlier one
        if other not in kept:
            _drop(other)
    return target


def load_checkpoint(folder: Path, *, previous: bool = False) -> Checkpoint | None:
    """Return the newest checkpoint; None if none was ever committed.

    Args:
        folder: The run's folder of checkpoints.
        previous: Whether one before the newest will do where that is damaged.

    Raises:
        SpecError: It is damaged. Names the file and the reason.
    """
    committed = _checkpoints(folder) if folder.is_dir() else []
    faults: list[str] = []
    for candidate in reversed(committed):
        try:
            return _read(candidate)
        except _DamageError as damage:
            faults.append(str(damage))
        if not previous:
            break
    if not faults:
        return None
    expected = "a checkpoint as it was written"
    if len(committed) > len(faults):
        expected += f", or --previous-checkpoint to go on from {committed[-2].name}"
    raise SpecError(f"Expected {expected}. Received: {'; '.join(faults)}, in {str(folder)!r}")


def _to_safetensors(state: State) -> bytes:
    try:
        # safetensors writes the memory of an array as it lies, also of one that is transposed.
        return save_tensors({name: np.asarray(array, order="C") for name, array in state.items()})
    except (SafetensorError, ValueError, LookupError, MemoryError) as error:
        raise OSError(f"no safetensors to write: {type(error).__name__}: {error}") from error


def _read(folder: Path) -> Checkpoint:
    manifest = _read_manifest(folder / _POSITION)
    path = folder / _STATE
    try:
        if (size := path.stat().st_size) != manifest.state_bytes:
            raise _DamageError(path, f"has {size} bytes, not the {manifest.state_bytes} written")
        content = read_bounded(path, manifest.state_bytes)
        if hashlib.sha256(content).hexdigest() != manifest.state_sha256:
            raise _DamageError(path, "differs from its checksum")
        return Checkpoint(manifest.position, load_tensors(content))
    except OSError as error:
        raise _DamageError(path, error.strerror or error) from error
    except (SafetensorError, ValueError, LookupError) as error:
        raise _DamageError(path, f"no safetensors: {error}") from error


def _read_manifest(path: Path) -> _Manifest:
    try:
        content = read_bounded(path, LARGEST_JSON)
        manifest = _Manifest.model_validate_json(content)
    except OSError as error:
        raise _DamageError(path, error.strerror or error) from error
    except ValidationError as error:
        raise _DamageError(path, first_fault(error)) from error
    if manifest.sha256 != manifest.checksum() or content != manifest.to_json():
        raise _DamageError(path, "differs from its checksum")
    if not path.parent.name.endswith(_name(manifest.position)):
        raise _DamageError(path, f"is of another checkpoint, {_name(manifest.position)}")
    return manifest


def _name(position: Position) -> str:
    return f"update-{position.updates:09d}"


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("update-*"))


def _drop(folder: Path) -> None:
    """Remove a checkpoint; the rename first, so that a half removed one has no name."""
    dropped = folder.with_name(f".dropped-{folder.name}")
    os.rename(folder, dropped)
    shutil.rmtree(dropped)


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half written or half removed."""
    for leftover in (*folder.glob(".writing-*"), *folder.glob(".dropped-*")):
        shutil.rmtree(leftover)
