"""``antiparallel train``."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from antiparallel.benchmarks.commands.options import (
    BACKENDS,
    DIVERGED,
    STOPPED,
    DataFolder,
    DecodingWorkers,
    Devices,
    PreviousCheckpoint,
    Set,
    Sharded,
    SkipBadImages,
    data_from,
)
from antiparallel.benchmarks.launch import launch
from antiparallel.benchmarks.processes import ALONE_HERE, find_place
from antiparallel.benchmarks.recipes import find_recipe, override, parse_overrides
from antiparallel.benchmarks.record import framework
from antiparallel.benchmarks.signals import Signals
from antiparallel.benchmarks.stepper import engine_of, join
from antiparallel.benchmarks.terminal import (
    RunBar,
    console,
    errors,
    pictures_bar,
    print_written,
    progress_bars,
    summary_line,
)
from antiparallel.benchmarks.train import train as train_recipe


def train(
    recipe: Annotated[str, typer.Argument(help="A name that `antiparallel recipes` lists.")],
    seed: Annotated[int, typer.Option(help="Seed of weights, feedback and order of data.")] = 0,
    backend: Annotated[str, typer.Option(help=f"Backend: {BACKENDS}.")] = "torch",
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. Default: runs/RECIPE/BACKEND/seed-SEED.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    data: DataFolder = None,
    workers: DecodingWorkers = None,
    skip_bad_images: SkipBadImages = 0,
    previous_checkpoint: PreviousCheckpoint = False,
    devices: Devices = 1,
    sharded: Sharded = False,
    settings: Set = None,
) -> None:
    """Train one recipe with one seed.

    The run's folder gets record.json, checkpoints, and events for TensorBoard. A run that was
    stopped or killed goes on with --resume, to the same result bit for bit.

    For example:

        antiparallel train digits/convnet-ss

        antiparallel train digits/convnet-fa --seed 3 --set epochs=20 --out runs/fa

        antiparallel train digits/convnet-fa --seed 3 --set epochs=20 --out runs/fa --resume

        antiparallel train digits/convnet-ss --set rule=ss-fixed --set setting=ss-fixed

        antiparallel train imagenet/resnet18-ss --data imagenet --workers 16 --set device=cuda

        antiparallel train imagenet/resnet18-ss --data imagenet --devices 8 --set device=cuda
    """
    place = find_place(os.environ)
    if backend == "torch" and devices > 1 and place == ALONE_HERE:
        raise typer.Exit(launch(devices, sys.argv[1:]))
    overrides = parse_overrides(settings or [])
    resolved = override(find_recipe(recipe), overrides)
    folder = (
        out
        or Path("runs") / resolved.name / framework(backend, engine_of(backend)) / f"seed-{seed}"
    )
    joined = join(backend, resolved, place, devices=devices, sharded=sharded)
    with Signals().caught() as signals, joined as processes:
        console.quiet = errors.quiet = not processes.leads
        with progress_bars() as progress:
            record = train_recipe(
                resolved,
                seed=seed,
                out=folder,
                backend=backend,
                data=data_from(data, workers, skip_bad_images),
                overrides=overrides,
                resume=resume,
                previous_checkpoint=previous_checkpoint,
                stop=signals,
                watch=RunBar(progress, f"{recipe} seed {seed}", resolved).show,
                watch_check=pictures_bar(progress, "checking pictures", signals),
                processes=processes,
            )
        console.print(summary_line(record), highlight=False)
        print_written("Run:", [folder])
        if record.status == "stopped":
            errors.print(STOPPED)
        received = max(map(int, processes.gather(b"%d" % (signals.received or 0))))
    if record.status == "stopped":
        raise typer.Exit(128 + received)
    if record.status == "diverged":
        raise typer.Exit(DIVERGED)
