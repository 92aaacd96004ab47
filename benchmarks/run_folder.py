"""A run's folder: record, losses, checkpoints, TensorBoard events, and who holds it."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from antiparallel.benchmarks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from antiparallel.benchmarks.files import (
    LARGEST_JSON,
    first_fault,
    named_in_errors,
    read_bounded,
    read_model,
    write_atomically,
)
from antiparallel.benchmarks.record import Found, Record, Shown, command_line
from antiparallel.spec import SpecError

_RECORD, _LOCK, _CHECKPOINTS, _LOSSES = "record.json", "lock", "checkpoints", "losses"
_DETECTIONS, _SHOWN = "detections.json", "shown.json"
_EVENTS = "events/events.out.tfevents.antiparallel"

_LARGEST_DETECTIONS = 256 * 2**20
"""Bytes; COCO's 5,000 validation pictures have 60 MB at most."""

_Losses = TypeAdapter(dict[str, tuple[float, ...]])
_Detections = TypeAdapter(list[Found])


class RunFolder:
    """One run on disk.

    Args:
        path: The folder.
        previous_checkpoint: Whether to go on from the one before if the newest is damaged.
    """

    def __init__(self, path: Path, *, previous_checkpoint: bool = False) -> None:
        self.path = path
        self._previous = previous_checkpoint

    def require_free(self) -> None:
        """Raise SpecError if another process holds the folder, or it is not a run's."""
        lock = self.path / _LOCK
        foreign = self.path.is_dir() and any(self.path.iterdir())
        if self.path.is_file() or (foreign and not lock.exists()):
            raise SpecError(
                f"Expected a new or empty folder, or a run. Received: folder={str(self.path)!r}"
            )
        if foreign:
            with lock.open("rb", buffering=0) as file:
                self._lock(file, fcntl.LOCK_SH)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, so that no other process writes to it; released however we end.

        Raises:
            SpecError: Another process holds it, or it is not a run's folder.
        """
        self.require_free()
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _LOCK).open("a+b", buffering=0) as file:
            self._lock(file, fcntl.LOCK_EX)
            with named_in_errors(self.path / _LOCK):
                file.truncate(0)
                file.write(f"{os.getpid()} ({command_line()})".encode())
            yield

    def _lock(self, file: FileIO, kind: int) -> None:
        """Lock the file as long as it is open; a process that dies leaves no lock behind."""
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().decode(errors="replace")
            raise SpecError(
                f"Expected a run that no other process works on; process {holder} does. "
                f"Received: folder={str(self.path)!r}"
            ) from error

    def has_record(self) -> bool:
        """Return whether a run was begun here."""
        return (self.path / _RECORD).is_file()

    def read_record(self) -> Record:
        """Return the record.

        Raises:
            SpecError: There is none, or it is not one of this version.
        """
        path = self.path / _RECORD
        if not path.is_file():
            raise SpecError(
                f"Expected a run's folder, with {_RECORD} in it. Received: {str(self.path)!r}"
            )
        return read_model(path, Record, "a record of this version")

    def write_record(self, record: Record) -> None:
        """Replace the record, and the events that follow from it."""
        # tensorboardX imports torch where there is one: not for those who only read records.
        from antiparallel.benchmarks.events import write_events

        write_atomically(self.path / _RECORD, (record.model_dump_json(indent=1) + "\n").encode())
        write_events(self.path / _EVENTS, record.epochs)

    def write_losses(self, epoch: int, losses: Mapping[str, Sequence[float]]) -> None:
        """Keep the losses of each update of an epoch: see ``stepper.Trained``."""
        path = self.path / _LOSSES / f"epoch-{epoch:04d}.json"
        path.parent.mkdir(exist_ok=True)
        kept = {name: tuple(values) for name, values in losses.items()}
        write_atomically(path, _Losses.dump_json(kept, indent=1) + b"\n")

    def read_losses(self) -> dict[str, list[float]]:
        """Return the losses of each update of the epochs completed: see ``stepper.Trained``.

        Raises:
            SpecError: A file has no lists of losses.
        """
        found: dict[str, list[float]] = {}
        for path in sorted((self.path / _LOSSES).glob("epoch-*.json")):
            try:
                losses = _Losses.validate_json(read_bounded(path, LARGEST_JSON))
            except ValidationError as error:
                raise SpecError(f"Expected lists of losses. Received: {str(path)!r}") from error
            for name, values in losses.items():
                found.setdefault(name, []).extend(values)
        return found

    def write_detections(self, detections: Sequence[Mapping[str, Any]]) -> None:
        """Keep what was last found in the validation pictures, in COCO's format of results."""
        write_atomically(self.path / _DETECTIONS, (json.dumps(list(detections)) + "\n").encode())

    def read_detections(self) -> list[Found]:
        """Return what was last found in the validation pictures; nothing before the first time.

        Raises:
            SpecError: The file is not in COCO's format of results.
        """
        path = self.path / _DETECTIONS
        if not path.exists():
            return []
        try:
            return _Detections.validate_json(read_bounded(path, _LARGEST_DETECTIONS))
        except ValidationError as error:
            raise SpecError(
                f"Expected detections in COCO's format of results ({first_fault(error)}). "
                f"Received: {str(path)!r}"
            ) from error

    def write_shown(self, shown: Shown) -> None:
        """Keep the truth about a few validation pictures, so that a report can show them."""
        write_atomically(self.path / _SHOWN, (shown.model_dump_json() + "\n").encode())

    def read_shown(self) -> Shown | None:
        """Return the truth about a few validation pictures; None if none was kept.

        Raises:
            SpecError: The file is none of this version.
        """
        path = self.path / _SHOWN
        if not path.exists():
            return None
        return read_model(path, Shown, "pictures to show")

    def save(self, checkpoint: Checkpoint) -> None:
        """Commit a checkpoint."""
        save_checkpoint(self.path / _CHECKPOINTS, checkpoint)

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint, None if none was committed yet.

        Raises:
            SpecError: It is damaged.
        """
        return load_checkpoint(self.path / _CHECKPOINTS, previous=self._previous)
