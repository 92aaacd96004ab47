"""A run's folder as the processes see it that train the run together: one of them holds it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from antiparallel.benchmarks.checkpoint import Checkpoint
from antiparallel.benchmarks.processes import Processes
from antiparallel.benchmarks.record import Position, Record, Shown
from antiparallel.benchmarks.run_folder import RunFolder


class SharedFolder(RunFolder):
    """A run's folder, which only the process that leads reads and writes; the others are told.

    What fails there fails in all.

    Args:
        folder: The folder, as the process that leads sees it.
        processes: The processes.
    """

    def __init__(self, folder: RunFolder, processes: Processes) -> None:
        super().__init__(folder.path)
        self._folder = folder
        self._processes = processes

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder; see ``RunFolder``."""
        with ExitStack() as held:
            self._lead(lambda: held.enter_context(self._folder.held()))
            yield

    def has_record(self) -> bool:
        """Return whether a run was begun here."""
        return bool(self._processes.told(lambda: b"begun" if self._folder.has_record() else b""))

    def read_record(self) -> Record:
        """Return the record."""
        return Record.model_validate_json(
            self._processes.told(lambda: self._folder.read_record().model_dump_json().encode())
        )

    def write_record(self, record: Record) -> None:
        """Replace the record, and the events that follow from it."""
        self._lead(lambda: self._folder.write_record(record))

    def write_losses(self, epoch: int, losses: Mapping[str, Sequence[float]]) -> None:
        """Keep the losses of each update of an epoch."""
        self._lead(lambda: self._folder.write_losses(epoch, losses))

    def write_detections(self, detections: Sequence[Mapping[str, Any]]) -> None:
        """Keep what was last found in the validation pictures."""
        self._lead(lambda: self._folder.write_detections(detections))

    def write_shown(self, shown: Shown) -> None:
        """Keep the truth about a few validation pictures."""
        self._lead(lambda: self._folder.write_shown(shown))

    def save(self, checkpoint: Checkpoint) -> None:
        """Commit a checkpoint."""
        self._lead(lambda: self._folder.save(checkpoint))

    def load(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, None if none was committed yet."""
        found: list[Checkpoint] = []

        def position() -> bytes:
            if checkpoint := self._folder.load():
                found.append(checkpoint)
            return found[0].position.model_dump_json().encode() if found else b""

        told = self._processes.told(position)
        if not told:
            return None
        state = self._processes.told(lambda: save_tensors(found[0].state))
        return Checkpoint(Position.model_validate_json(told), load_tensors(state))

    def _lead(self, act: Callable[[], object]) -> None:
        self._processes.together(act if self._processes.leads else lambda: None)
