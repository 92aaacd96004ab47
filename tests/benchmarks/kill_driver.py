"""Runs one recipe in processes that SIGKILL themselves at given moments, and resumes it.

Used by test_killed.py, as ``python kill_driver.py FOLDER RECIPE_JSON MOMENTS_JSON BACKEND``, the
moments by the name of the run. A moment is
``["update", n]``, before update number n of that process, or ``["write", n]``, before its n-th
step of writing: a file's or folder's sync, a rename, a removal. After the last kill a process
finishes the run. Processes are forked before a framework has computed anything.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import STEPPERS
from antiparallel.benchmarks.train import train

import_module("antiparallel.benchmarks.events")  # the slow imports, once, before the forks
BACKEND = sys.argv[4]
import_module(STEPPERS[BACKEND].module)


NEVER = ("never", -1)


class Killer:
    """Counts moments of one kind and kills the process at the n-th, from 0."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def __call__(self) -> bool:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return False

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            self()
            return function(*args, **kwargs)

        return called


def run(folder: Path, recipe: Recipe, kind: str, moment: int) -> None:
    killer = Killer(moment)
    if kind == "write":
        for module, name in ((os, "fsync"), (os, "replace"), (os, "rename"), (shutil, "rmtree")):
            setattr(module, name, killer.before(getattr(module, name)))
    stop = killer if kind == "update" else lambda: False
    train(recipe, seed=3, out=folder, backend=BACKEND, resume=True, stop=stop)


def in_a_process(folder: Path, recipe: Recipe, kind: str, moment: int) -> int:
    """Return the signal that ended the process, 0 if it came to its end."""
    child = os.fork()
    if child == 0:
        run(folder, recipe, kind, moment)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def main() -> None:
    folder, recipe = Path(sys.argv[1]), Recipe.model_validate_json(sys.argv[2])
    ends = {
        name: [in_a_process(folder / name, recipe, *moment) for moment in [*moments, NEVER]]
        for name, moments in json.loads(sys.argv[3]).items()
    }
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
