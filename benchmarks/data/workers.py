"""Processes that decode pictures ahead of the training that uses them."""

import math
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.signals import blocked
from antiparallel.spec import SpecError

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

Bytes: TypeAlias = NDArray[np.uint8]

_AHEAD = 6  # tasks that wait or run, for each worker


class Workers(Generic[Shared]):
    """Some processes, or with none this one.

    They are spawned, not forked: neither JAX nor TensorFlow may be forked.

    Args:
        count: How many; 0 works in this process, when asked.
        shared: What every task needs; sent to each process once.
        largest: The bytes of the largest array that a task of ``arrays`` gives.
    """

    def __init__(self, count: int, shared: Shared, largest: int = 0) -> None:
        if count < 0:
            raise SpecError(f"Expected a number of workers >= 0. Received: workers={count}")
        self.count = count
        self._shared = shared
        self._largest = largest
        self._places = list(range(_AHEAD * count + 1))  # one for each task under way
        self._room_size = largest * len(self._places)
        self._room: Any = None
        self._pool: ProcessPoolExecutor | None = None
        self._others: set[BaseProcess] = set()

    def arrays(
        self, work: Callable[[Shared, Task], Bytes], tasks: Iterable[Task]
    ) -> Iterator[Bytes]:
        """Yield arrays as ``map`` does, through memory that the processes share: pipes are slow.

        An array holds until the next one is asked for.
        """
        if not self.count:
            yield from self.map(work, tasks)
            return
        taken: deque[int | None] = deque()

        def placed() -> Iterator[tuple[int | None, Task]]:
            for task in tasks:
                # With more than one iteration under way places run out, and arrays are sent.
                taken.append(self._places.pop() if self._places else None)
                yield taken[-1], task

        results = self.map(partial(_put, work, self._largest), placed())
        try:
            for found in results:
                yield self._seen(taken[0], found)
                self._leave(taken.popleft())
        finally:
            results.close()
            for place in taken:
                self._leave(place)

    def map(
        self, work: Callable[[Shared, Task], Result], tasks: Iterable[Task]
    ) -> Generator[Result, None, None]:
        """Yield ``work(shared, task)`` of each task in the tasks' order, worked on ahead.

        Raises:
            RuntimeError: A worker was killed.
        """
        if not self.count:
            for task in tasks:
                yield work(self._shared, task)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                pool = self._started()
                with blocked():  # it may start a process
                    waiting.append(pool.submit(_run, work, task))
                if len(waiting) > _AHEAD * self.count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            self._pool = None
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()  # the pool sends SIGTERM, to which they are deaf, and waits
            raise RuntimeError("A worker that decodes pictures was killed") from error
        finally:  # also when nobody wants the rest
            wait([future for future in waiting if not future.cancel()])

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._others = set(multiprocessing.active_children())
            context = multiprocessing.get_context("spawn")
            if self._room is None:
                self._room = context.RawArray("B", self._room_size)
            self._pool = ProcessPoolExecutor(
                self.count, context, _begin, (self._shared, self._room)
            )
        return self._pool

    def _seen(self, place: int | None, found: Any) -> Bytes:
        if place is None:
            array: Bytes = found
            return array
        size = math.prod(found)
        return np.frombuffer(self._room, np.uint8, size, place * self._largest).reshape(found)

    def _leave(self, place: int | None) -> None:
        if place is not None:
            self._places.append(place)


_shared: Any = None
_room: Any = None


def _put(
    work: Callable[[Any, Task], Bytes], largest: int, shared: Any, placed: tuple[int | None, Task]
) -> Bytes | tuple[int, ...]:
    """Put an array in its place and return its shape, or without a place return the array."""
    place, task = placed
    found = work(shared, task)
    if place is None:
        return found
    np.frombuffer(_room, np.uint8, found.size, place * largest)[:] = found.ravel()
    return found.shape


def _run(work: Callable[[Any, Task], Result], task: Task) -> Result:
    return work(_shared, task)


def _begin(shared: Any, room: Any) -> None:
    """End when the process that trains does, however that comes.

    SIGINT and SIGTERM are blocked here: terminals and schedulers send them to all processes, but
    the one that trains needs its pictures until it has saved.
    """
    global _shared, _room
    _shared, _room = shared, room
    parent: Any = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
