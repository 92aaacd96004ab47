"""What several commands take, and how they end."""

import os
from pathlib import Path
from typing import Annotated

import typer

from antiparallel.benchmarks.processes import find_place
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.signals import Signals
from antiparallel.benchmarks.stepper import STEPPERS, installed_backends
from antiparallel.benchmarks.terminal import errors
from antiparallel.benchmarks.train import Data
from antiparallel.spec import SpecError

DIVERGED = 3
UNWRITABLE = 4
STOPPED = "Stopped and saved. The same command goes on (train: with --resume)."
BACKENDS = ", ".join(STEPPERS)

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Override a field that `antiparallel recipes` shows; repeatable.",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Pictures: train and val (or test), folders or zip files, one folder a class.",
    ),
]
DecodingWorkers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes that decode pictures. Default: 2."),
]
Devices = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Devices of this machine that share every batch."),
]
Sharded = Annotated[
    bool,
    typer.Option("--sharded", help="Spread parameters over the devices too: FSDP2 instead of DDP."),
]
SkipBadImages = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Leave out up to N pictures that cannot be read."),
]
PreviousCheckpoint = Annotated[
    bool,
    typer.Option(
        "--previous-checkpoint",
        help="If a newest checkpoint is damaged, go on from the one before.",
    ),
]


def require_no_launcher() -> None:
    """Raise SpecError in one of several processes, each of which would start the same runs."""
    if (world := find_place(os.environ).part.world) > 1:
        raise SpecError(f"Expected one process, which starts others. Received: {world} processes")


def exit_if_stopped(signals: Signals) -> None:
    """Leave with the exit code of the signal that arrived, if one did."""
    if signals.received is not None:
        errors.print(STOPPED)
        raise typer.Exit(128 + signals.received)


def installed() -> list[str]:
    """Return the backends that are installed, or raise SpecError."""
    if not (found := installed_backends()):
        raise SpecError(
            "Expected a backend to be installed: pip install 'antiparallel[torch]', or "
            "'antiparallel[keras]' and the engine that KERAS_BACKEND names. Received: none"
        )
    return found


def data_from(root: Path | None, workers: int | None, skip_bad_images: int) -> Data:
    """Return where pictures are, and how they are read."""
    wanted = 2 if workers is None and root is not None else workers or 0
    return Data(root, wanted, skip_bad_images)


def at_once(recipe: Recipe) -> int:
    """Return how many runs of a recipe this machine has CPU cores for, at least one."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // recipe.threads)
