"""Run a tier: every recipe, every seed, side by side in worker processes."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from antiparallel.benchmarks.data.splits import Watch as WatchCheck
from antiparallel.benchmarks.data.splits import unwatched as unwatched_check
from antiparallel.benchmarks.files import (
    LARGEST_JSON,
    first_fault,
    read_bounded,
    write_atomically,
)
from antiparallel.benchmarks.loop import Progress
from antiparallel.benchmarks.recipes import LEARNING, Recipe, override, tier_recipes
from antiparallel.benchmarks.record import Record, framework
from antiparallel.benchmarks.signals import CAUGHT, Signals, blocked
from antiparallel.benchmarks.stepper import engine_of, require_backend
from antiparallel.benchmarks.train import Data, open_dataset, train
from antiparallel.spec import SpecError

_MARK = "reproduce.json"


class _Mark(BaseModel):
    """What a reproduction's folder holds."""

    model_config = ConfigDict(extra="forbid")

    tier: str
    overrides: dict[str, str]


@dataclass(frozen=True)
class Job:
    """One run to make."""

    recipe: Recipe
    overrides: Mapping[str, str]
    backend: str
    seed: int
    data: Data
    out: Path
    previous_checkpoint: bool = False


@dataclass(frozen=True)
class Told:
    """A job's progress."""

    job: Job
    progress: Progress


@dataclass(frozen=True)
class Finished:
    """A job's record, when it is complete, diverged or stopped."""

    job: Job
    record: Record


@dataclass(frozen=True)
class _Failed:
    error: SpecError | OSError | RuntimeError


Watch = Callable[[Told | Finished], None]


def plan(
    tier: str,
    *,
    backends: Sequence[str],
    seeds: int,
    out: Path,
    data: Data,
    overrides: Mapping[str, str],
    previous_checkpoint: bool = False,
    watch_check: WatchCheck = unwatched_check,
) -> list[Job]:
    """Return a tier's jobs, seed by seed, and mark the folder as this reproduction's.

    Raises:
        SpecError: An argument is not allowed, the data set is not one, or the folder holds
            something else. Nothing is then written.
    """
    if seeds < 1:
        raise SpecError(f"Expected at least one seed. Received: seeds={seeds}")
    for backend in backends:
        require_backend(backend)
    if compared := sorted(set(overrides) & set(LEARNING)):
        raise SpecError(
            f"Expected no override of what the tier compares ({', '.join(LEARNING)}); use train. "
            f"Received: {', '.join(compared)}"
        )
    recipes = [override(recipe, overrides) for recipe in tier_recipes(tier)]
    open_dataset(recipes[0], data, watch_check).close()  # once, before anything is written
    mark = _Mark(tier=tier, overrides=dict(overrides))
    _require_ours(out, mark)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / _MARK, mark.model_dump_json(indent=1).encode())
    return [
        Job(
            recipe,
            overrides,
            backend,
            seed,
            data,
            out
            / "runs"
            / framework(backend, engine_of(backend))
            / f"{recipe.model}-{recipe.setting}"
            / f"seed-{seed}",
            previous_checkpoint,
        )
        for seed in range(seeds)
        for backend in backends
        for recipe in recipes
    ]


def run_jobs(
    jobs: Sequence[Job], *, processes: int, signals: Signals, watch: Watch
) -> list[Record]:
    """Run jobs in worker processes; finished ones are not run again, begun ones go on.

    Args:
        jobs: The jobs.
        processes: Worker processes.
        signals: When one arrives, every worker saves its run and ends.
        watch: Told of every job's progress and end.

    Returns:
        The records of the jobs that were begun, in the order of the jobs.

    Raises:
        SpecError: A job's folder is not that job's, or its backend is not installed.
        OSError: A file or folder could not be read or written.
        RuntimeError: A worker failed or was killed. Its run can be resumed.
    """
    pool = _Pool(list(jobs), watch)
    try:
        for _ in range(min(processes, len(jobs))):
            pool.start_worker()
        while pool.workers:
            if signals():
                pool.stop()
            pool.serve()
    finally:
        pool.close()
    return [pool.records[job.out] for job in jobs if job.out in pool.records]


class _Worker(NamedTuple):
    process: BaseProcess
    backend: str
    """Its jobs' one backend: two frameworks in one process can crash each other."""


class _Pool:
    def __init__(self, jobs: list[Job], watch: Watch) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._jobs = jobs[::-1]
        self._watch = watch
        self._stopping = False
        self.workers: dict[Connection, _Worker] = {}
        self.records: dict[Path, Record] = {}

    def start_worker(self) -> None:
        """Start a process for the backend whose job is next."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs,), daemon=False)
        with blocked():  # till the worker catches them
            process.start()
        theirs.close()
        self.workers[ours] = _Worker(process, self._jobs[-1].backend)
        self._assign(ours)

    def serve(self) -> None:
        for ready in wait(list(self.workers), timeout=0.2):
            assert isinstance(ready, Connection)
            try:
                message = ready.recv()
            except (EOFError, ConnectionResetError) as error:
                raise RuntimeError("A worker process was killed; its run can be resumed") from error
            if isinstance(message, _Failed):
                raise message.error
            self._watch(message)
            if isinstance(message, Finished):
                self.records[message.job.out] = message.record
                self._assign(ready)

    def stop(self) -> None:
        """Let every worker save its run and end."""
        if not self._stopping:
            self._stopping = True
            for worker in self.workers.values():
                worker.process.terminate()

    def close(self) -> None:
        self.stop()
        for connection in list(self.workers):
            self._retire(connection)

    def _assign(self, connection: Connection) -> None:
        backend = self.workers[connection].backend
        jobs = [job for job in self._jobs if job.backend == backend and not self._stopping]
        if jobs:
            self._jobs.remove(jobs[-1])
            connection.send(jobs[-1])
            return
        self._retire(connection)
        if self._jobs and not self._stopping:
            self.start_worker()

    def _retire(self, connection: Connection) -> None:
        worker = self.workers.pop(connection)
        connection.close()
        worker.process.join()


def _work(connection: Connection) -> None:
    """Run the jobs that arrive until the other end closes: when there are none, or it died."""
    with Signals(ignore=(signal.SIGINT,)).caught() as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        try:
            while True:
                connection.send(_run(connection.recv(), signals, connection))
        except (EOFError, OSError):
            return


def _run(job: Job, signals: Signals, connection: Connection) -> Finished | _Failed:
    def watch(progress: Progress) -> None:
        connection.send(Told(job, progress))

    try:
        record = train(
            job.recipe,
            seed=job.seed,
            out=job.out,
            backend=job.backend,
            data=job.data,
            overrides=job.overrides,
            resume=True,
            previous_checkpoint=job.previous_checkpoint,
            stop=signals,
            watch=watch,
        )
    except BrokenPipeError:
        raise
    except (SpecError, OSError) as error:  # told to the parent, which raises it
        return _Failed(error)
    except Exception:  # a bug: its traceback is told to the parent, which raises it
        return _Failed(RuntimeError(traceback.format_exc()))
    return Finished(job, record)


def _require_ours(out: Path, mark: _Mark) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return  # nothing there yet
    if not (out / _MARK).is_file():
        raise SpecError(
            f"Expected a new or empty folder, or one of an earlier reproduction. "
            f"Received: out={str(out)!r}"
        )
    try:
        found = _Mark.model_validate_json(read_bounded(out / _MARK, LARGEST_JSON))
    except ValidationError as error:
        raise SpecError(
            f"Expected a readable {_MARK} ({first_fault(error)}). Received: out={str(out)!r}"
        ) from error
    if found != mark:
        raise SpecError(
            f"Expected a folder with the same tier and overrides as before, "
            f"{found.tier} {found.overrides}. "
            f"Received: {mark.tier} {mark.overrides}, out={str(out)!r}"
        )
