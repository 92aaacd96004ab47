"""The training loop, for every backend: rounds, validation, records, checkpoints, resume.

A run is a pure function of (recipe, seed, backend): order of data and randomness depend on
nothing else. So a run that is killed anywhere goes on from its newest checkpoint to the result
that it would have had.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from typing import NamedTuple, TypeAlias

import numpy as np

from antiparallel.benchmarks.checkpoint import Checkpoint
from antiparallel.benchmarks.data import WHOLE, Batch, Dataset, Part
from antiparallel.benchmarks.processes import Stop
from antiparallel.benchmarks.record import (
    Epoch,
    LayerDiagnostics,
    Position,
    Record,
    Status,
    describe_session,
)
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import State, Stepper
from antiparallel.spec import SpecError

_TELL_EVERY = 0.5  # seconds


class Progress(NamedTuple):
    """How far a run is, for those who watch it.

    Args:
        updates: Updates made.
        total: Updates of the whole run.
        validation: The last epoch's metrics of the validation pictures; none before the first.
    """

    updates: int
    total: int
    validation: Mapping[str, float]


Watch: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True)
class Training:
    """One run at work.

    Args:
        record: What run it is.
        stepper: Its network.
        dataset: Its pictures.
        folder: Its folder, held by this process or the one that leads.
        stop: Asked before every update; True ends the run after a checkpoint.
        watch: Told the progress after every round, and twice a second.
        part: This process's share of every batch.
    """

    record: Record
    stepper: Stepper
    dataset: Dataset
    folder: RunFolder
    stop: Stop
    watch: Watch
    part: Part = WHOLE

    def run(self) -> Record:
        """Train from the newest checkpoint to the end, or until stopped.

        Returns:
            The record: ``complete``, ``stopped``, or ``diverged`` if a loss was not finite. No
            update follows from such a loss, and the newest checkpoint is the one before it.
        """
        position = self._restore()
        session = describe_session(self.stepper.describe(), position.updates)
        record = self.record.model_copy(update={"sessions": (*self.record.sessions, session)})
        record = self._write(record, position, "running")
        self._tell(position)
        clock = _Clock()
        while position.epoch < record.recipe.epochs:
            reached = self._round(position, clock)
            losses = reached.losses
            if reached.step == self._steps and _is_finite(reached):
                reached = self._finish_epoch(reached, clock)
            state = self.stepper.state()
            if not (_is_finite(reached) and _all_finite(state)):
                record = record.model_copy(update={"diverged_at": reached.updates - 1})
                return self._write(record, position, "diverged")
            if reached.epoch > position.epoch:
                self.folder.write_losses(position.epoch, losses)
            self.folder.save(Checkpoint(reached, state))
            if reached.epoch > position.epoch:
                record = self._write(record, reached, "running")
            position = reached
            self._tell(position)
            if self.stop():
                break
        finished = position.epoch == record.recipe.epochs
        return self._write(record, position, "complete" if finished else "stopped")

    @property
    def _pass(self) -> int:
        """Updates in which every training picture is seen once."""
        return self.dataset.train_size // self.record.recipe.batch_size

    @property
    def _steps(self) -> int:
        """Updates of an epoch."""
        return self.record.recipe.steps_per_epoch or self._pass

    def _restore(self) -> Position:
        checkpoint = self.folder.load()
        if checkpoint is None:
            return Position()
        self._require_ours(checkpoint)
        self.stepper.load_state(checkpoint.state)
        return checkpoint.position

    def _require_ours(self, checkpoint: Checkpoint) -> None:
        """Raise SpecError if a checkpoint, whole as it is, cannot be one of this run."""
        position = checkpoint.position
        faults = []
        if (
            position.updates != position.epoch * self._steps + position.step
            or position.updates > self.record.recipe.epochs * self._steps
            or position.epoch != len(position.history)
            or (position.step > 0 and not position.losses)
            or any(len(losses) != position.step for losses in position.losses.values())
        ):
            faults.append("position")
        for name, array in self.stepper.state().items():
            found = checkpoint.state.get(name)
            if found is None or (found.shape, found.dtype) != (array.shape, array.dtype):
                faults.append(name)
        if faults:
            raise SpecError(
                f"Expected a checkpoint of {self.record.name}. "
                f"Received: another {', '.join(faults[:5])}"
            )

    def _round(self, position: Position, clock: "_Clock") -> Position:
        """Train to the next checkpoint, drop of the learning rate, end of the epoch, or stop."""
        recipe = self.record.recipe
        every = recipe.checkpoint_every
        began = position.updates - position.step
        drops = [drop - began for drop in recipe.drops(self._steps)]
        end = min(
            (position.step // every + 1) * every,
            self._steps,
            *(drop for drop in drops if drop > position.step),
        )
        batches = self._batches(position.updates, began + end)
        shown = _Shown(batches, self.stop, lambda made: self._tell(position, made))
        lr = recipe.lr_at(position.updates, self._steps)
        trained = self.stepper.train(shown, lr, position.sums)
        made = len(trained.losses["loss"])
        return position.model_copy(
            update={
                "step": position.step + made,
                "updates": position.updates + made,
                "sums": trained.sums,
                "losses": {
                    name: (*position.losses.get(name, ()), *losses)
                    for name, losses in trained.losses.items()
                },
                "seconds": position.seconds + clock.lap(),
            }
        )

    def _batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of some updates, counted from the run's first; passes end anywhere."""
        while start < stop:
            number, step = divmod(start, self._pass)
            end = min(self._pass, step + stop - start)
            yield from self.dataset.train_batches(
                seed=self.record.seed,
                epoch=number,
                start=step,
                stop=end,
                batch_size=self.record.recipe.batch_size,
                part=self.part,
            )
            start += end - step

    def _finish_epoch(self, position: Position, clock: "_Clock") -> Position:
        recipe = self.record.recipe
        means = {name: total / position.sums["examples"] for name, total in position.sums.items()}
        pictures = self.dataset.validation_batches(recipe.batch_size, self.part)
        evaluation = self.stepper.evaluate(pictures)
        scored = self.dataset.score(evaluation.predictions)
        if scored.detections is not None:
            self.folder.write_detections(scored.detections)
        diagnostics = self.stepper.diagnostics()
        epoch = Epoch(
            epoch=position.epoch,
            lr=recipe.lr_at(position.updates - 1, self._steps),
            train={name: mean for name, mean in means.items() if name != "examples"},
            validation=evaluation.metrics | scored.metrics,
            diagnostics={
                layer: LayerDiagnostics(**found._asdict()) for layer, found in diagnostics.items()
            },
            seconds=position.seconds + clock.lap(),
            ended=time.time(),
            memory=self.stepper.memory(),
        )
        return Position(
            epoch=position.epoch + 1,
            updates=position.updates,
            history=(*position.history, epoch),
            predictions=tuple(evaluation.predictions) if scored.detections is None else (),
        )

    def _tell(self, position: Position, made: int = 0) -> None:
        """Tell how far the run is, some updates after a position."""
        last = position.history[-1:]
        total = self.record.recipe.epochs * self._steps
        self.watch(Progress(position.updates + made, total, last[0].validation if last else {}))

    def _write(self, record: Record, position: Position, status: Status) -> Record:
        """Write the record as of a checkpoint: its epochs are the checkpoint's."""
        record = record.model_copy(
            update={
                "status": status,
                "epochs": position.history,
                "predictions": position.predictions,
            }
        )
        self.folder.write_record(record)
        return record


class _Clock:
    """Time since the last lap, so that saving counts too: in the round that follows."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap, and begin another."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        return seconds


def _is_finite(position: Position) -> bool:
    found = [*position.sums.values(), *chain(*position.losses.values())]
    for epoch in position.history[-1:]:  # average precision need not exist
        found += [epoch.train[name] for name in epoch.train]
        found += [epoch.validation[name] for name in epoch.train]
    return all(isfinite(value) for value in found)


def _all_finite(state: State) -> bool:
    """Return whether a state can be gone on from: a finite loss may have had an infinite slope."""
    return all(np.isfinite(array).all() for array in state.values())


class _Shown:
    """Batches until a stop is asked for, with word of how many were taken."""

    def __init__(self, batches: Iterator[Batch], stop: Stop, tell: Callable[[int], None]) -> None:
        self._batches = batches
        self._stop = stop
        self._tell = tell

    def __iter__(self) -> Iterator[Batch]:
        told = time.perf_counter()
        for made, batch in enumerate(self._batches):
            if self._stop():
                return
            if time.perf_counter() > told + _TELL_EVERY:
                told = time.perf_counter()
                self._tell(made)
            yield batch
