"""Checkpoints: safetensors and JSON, committed by one rename, verified after writing."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from antiparallel.benchmarks.files import sync_folder, write_atomically
from antiparallel.benchmarks.record import Position
from antiparallel.benchmarks.stepper import State
from antiparallel.spec import SpecError

_STATE, _POSITION = "state.safetensors", "position.json"
_KEEP = 2


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    position: Position
    state_sha256: str


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
        OSError: Writing failed, or what was read back differs. Earlier checkpoints are whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    name = f"update-{checkpoint.position.updates:09d}"
    writing = folder / f".writing-{name}"
    writing.mkdir()
    # safetensors writes the memory of an array as it lies, also of one that is transposed.
    content = save_tensors(
        {name: np.asarray(array, order="C") for name, array in checkpoint.state.items()}
    )
    digest = hashlib.sha256(content).hexdigest()
    manifest = _Manifest(position=checkpoint.position, state_sha256=digest)
    write_atomically(writing / _STATE, content)
    write_atomically(writing / _POSITION, manifest.model_dump_json(indent=1).encode())
    if _read(writing) is None:
        raise OSError(f"Expected to read back what was written. Received: damage in {writing}")
    target = folder / name
    if target.exists():
        _drop(target)
    os.rename(writing, target)
    sync_folder(folder)
    for old in _checkpoints(folder)[:-_KEEP]:
        _drop(old)
    return target


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that is whole; None if none was ever committed.

    Raises:
        SpecError: There are checkpoints, and every one is damaged.
    """
    committed = _checkpoints(folder) if folder.is_dir() else []
    for candidate in reversed(committed):
        if (checkpoint := _read(candidate)) is not None:
            return checkpoint
    if committed:
        raise SpecError(
            f"Expected a checkpoint that agrees with its checksum. Received: folder={str(folder)!r}"
        )
    return None


def _read(folder: Path) -> Checkpoint | None:
    """Return a checkpoint, or None if its files are missing or damaged."""
    try:
        manifest = _Manifest.model_validate_json((folder / _POSITION).read_bytes())
        content = (folder / _STATE).read_bytes()
    except (FileNotFoundError, ValidationError):
        return None
    if hashlib.sha256(content).hexdigest() != manifest.state_sha256:
        return None
    return Checkpoint(manifest.position, load_tensors(content))


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("update-*"))


def _drop(folder: Path) -> None:
    """Remove a checkpoint; the rename first, so that a half removed one has no name."""
    dropped = folder.with_name(f".dropped-{folder.name}")
    os.rename(folder, dropped)
    shutil.rmtree(dropped)


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half written or half removed."""
    for leftover in folder.glob(".*"):
        shutil.rmtree(leftover)
