"""Processes that decode pictures ahead of the training that uses them."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from antiparallel.benchmarks.signals import blocked
from antiparallel.spec import SpecError

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 4  # tasks that wait or run, for each worker


class Workers(Generic[Shared]):
    """Some processes, or with none this one.

    They are spawned, not forked: neither JAX nor TensorFlow may be forked.

    Args:
        count: How many; 0 works in this process, when asked.
        shared: What every task needs; sent to each process once.
    """

    def __init__(self, count: int, shared: Shared) -> None:
        if count < 0:
            raise SpecError(f"Expected a number of workers >= 0. Received: workers={count}")
        self.count = count
        self._shared = shared
        self._pool: ProcessPoolExecutor | None = None
        self._others: set[BaseProcess] = set()

    def map(
        self, work: Callable[[Shared, Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result]:
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
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._others = set(multiprocessing.active_children())
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, context, _begin, (self._shared,))
        return self._pool


_shared: Any = None


def _run(work: Callable[[Any, Task], Result], task: Task) -> Result:
    return work(_shared, task)


def _begin(shared: Any) -> None:
    """End when the process that trains does, however that comes.

    SIGINT and SIGTERM are blocked here: terminals and schedulers send them to all processes, but
    the one that trains needs its pictures until it has saved.
    """
    global _shared
    _shared = shared
    parent: Any = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
