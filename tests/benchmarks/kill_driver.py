"""Runs one recipe in processes that die or fail at given moments, and resumes it.

Tests call ``drive``, which starts this file as a process. A moment is

- ``["update", n]``: SIGKILL before update number n of that process;
- ``["write", n]``: SIGKILL before its n-th step of writing: half a file, a file's or folder's sync,
  a rename, a removal;
- ``["full", n]``: a disk that takes no file of more than n bytes;
- ``["state", n]``: no memory for writing its n-th checkpoint.

After the last moment a process finishes the run. Processes are forked before a framework has
computed anything, and whatever they leave behind must end by itself.
"""

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import STEPPERS
from antiparallel.benchmarks.train import Data, train

NEVER = ("never", -1)
UNWRITABLE = 4
CHILD_SUBREAPER = 36
PATIENCE = 30
"""Seconds that processes left behind may take to end; then SIGALRM ends this one."""


class Counter:
    """Counts moments of one kind and does something at the n-th, from 0."""

    def __init__(self, moment: int, happen: Callable[[], object]) -> None:
        self.left = moment
        self.happen = happen

    def __call__(self) -> bool:
        if self.left == 0:
            self.happen()
        self.left -= 1
        return False

    def before(self, owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            self()
            return function(*args, **kwargs)

        setattr(owner, name, called)


def drive(
    folder: Path,
    recipe: Recipe,
    runs: dict[str, list[tuple[str, int]]],
    backend: str = "torch",
    **pictures: Any,
) -> tuple[dict[str, list[int]], str]:
    """Run the recipe several times, each with moments of its own.

    Args:
        folder: Where the runs' folders are made.
        recipe: The recipe.
        runs: The moments, by the name of the run.
        backend: The backend.
        pictures: ``data``, the data set's folder, and ``workers``, by the name of the run.

    Returns:
        How each process ended, by the run's name: the signal, or the exit code that the command
        would give. And what the processes had to say.
    """
    order = {
        "folder": str(folder),
        "recipe": recipe.model_dump(),
        "backend": backend,
        "runs": runs,
        **pictures,
    }
    # Every process compiles anew, and all alike: on JAX in half the time without optimising.
    plain = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    answer = subprocess.run(
        [sys.executable, __file__, json.dumps(order)],
        capture_output=True,
        text=True,
        env=os.environ | plain,
    )
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr, answer.stderr
    return json.loads(answer.stdout), answer.stderr


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_out_of_memory() -> None:
    raise MemoryError


def prepare(kind: str, moment: int) -> Callable[[], bool]:
    """Arrange for the moment, and return what the loop asks before every update."""
    if kind == "update":
        return Counter(moment, die)
    if kind == "write":
        killer = Counter(moment, die)
        write_bytes = Path.write_bytes

        def write_half(path: Path, content: bytes) -> None:
            write_bytes(path, content[: len(content) // 2])
            killer()
            write_bytes(path, content)

        Path.write_bytes = write_half
        for module, name in ((os, "fsync"), (os, "replace"), (os, "rename"), (shutil, "rmtree")):
            killer.before(module, name)
    if kind == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (moment, resource.RLIM_INFINITY))
    if kind == "state":
        checkpoint = import_module("antiparallel.benchmarks.checkpoint")
        Counter(moment, run_out_of_memory).before(checkpoint, "save_tensors")
    return lambda: False


def in_a_process(order: dict[str, Any], name: str, kind: str, moment: int) -> int:
    """Return the signal that ended the process, or its exit code."""
    child = os.fork()
    if child == 0:
        data = Data()
        if root := order.get("data"):
            data = Data(Path(root), order["workers"][name])
        try:
            train(
                Recipe.model_validate(order["recipe"]),
                seed=3,
                out=Path(order["folder"]) / name,
                backend=order["backend"],
                data=data,
                resume=True,
                stop=prepare(kind, moment),
            )
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(UNWRITABLE)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    signal.alarm(PATIENCE)
    while has_child():
        os.wait()
    signal.alarm(0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def has_child() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def main() -> None:
    order = json.loads(sys.argv[1])
    import_module("antiparallel.benchmarks.events")  # what is slow, once, before the forks
    import_module(STEPPERS[order["backend"]].module)
    digits()
    ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1)  # orphans become this process's
    ends = {
        name: [in_a_process(order, name, *moment) for moment in [*moments, NEVER]]
        for name, moments in order["runs"].items()
    }
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
