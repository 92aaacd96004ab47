"""The ``antiparallel`` command: what a user can ask for, and the exit codes.

0: done. 1: a check of the conformance suite failed. 2: wrong arguments, one message on stderr.
3: a run diverged. 130 and 143: stopped by SIGINT or SIGTERM after saving; the same command, for
``train`` with ``--resume``, goes on.
"""

import importlib.metadata
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from antiparallel.benchmarks.compare import compare_runs, write_comparison
from antiparallel.benchmarks.conformance import check_conformance
from antiparallel.benchmarks.launch import launch
from antiparallel.benchmarks.processes import ALONE_HERE, find_place
from antiparallel.benchmarks.recipes import (
    RECIPES,
    TIERS,
    find_recipe,
    override,
    parse_overrides,
)
from antiparallel.benchmarks.record import Record, framework
from antiparallel.benchmarks.report.pages import make_report, write_report
from antiparallel.benchmarks.report.results import find_records, gather
from antiparallel.benchmarks.reproduce import plan, run_jobs
from antiparallel.benchmarks.signals import Signals
from antiparallel.benchmarks.stepper import STEPPERS, engine_of, installed_backends, join
from antiparallel.benchmarks.terminal import (
    Bars,
    RunBar,
    check_bar,
    console,
    errors,
    print_comparison,
    print_runs,
    print_section,
    print_written,
    progress_bars,
    summary_line,
)
from antiparallel.benchmarks.train import Data
from antiparallel.benchmarks.train import train as train_recipe
from antiparallel.spec import SPEC_VERSION, SpecError

DIVERGED = 3
UNWRITABLE = 4


class Profile(StrEnum):
    """The conformance suite's profiles, by their names there."""

    quick = "quick"
    default = "default"
    thorough = "thorough"


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)

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
_BACKENDS = ", ".join(STEPPERS)
_STOPPED = "Stopped and saved. The same command goes on (train: with --resume)."


def run() -> None:
    """Run the command; an error that the user can mend is one message and an exit code."""
    try:
        app()
    except SpecError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"Expected files that can be read and written. Received: {error}", UNWRITABLE)


def _fail(message: str, code: int) -> NoReturn:
    text = Text(f"antiparallel: {message}", style="red")
    errors.print(text, soft_wrap=True, highlight=False)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        version = importlib.metadata.version("antiparallel")
        console.print(f"antiparallel {version}, specification {SPEC_VERSION}", highlight=False)
        raise typer.Exit


@app.callback()
def antiparallel(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show versions and exit."
        ),
    ] = False,
) -> None:
    """Train networks by backprop, sign-symmetry and feedback alignment, and compare them.

    Start with: **antiparallel reproduce digits** (about a minute on two CPU cores, no download).

    Exit codes: 0 done; 1 a conformance check failed; 2 a wrong argument; 3 a run diverged; 4
    a file or folder could not be read or written; 130 and 143 stopped by Ctrl-C or SIGTERM after
    saving.
    """


@app.command()
def reproduce(
    tier: Annotated[str, typer.Argument(help=f"Size of the experiment: {', '.join(TIERS)}.")],
    backend: Annotated[
        list[str] | None,
        typer.Option(help=f"Backend: {_BACKENDS}; repeatable. Default: all that are installed."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each setting, with seeds 0, 1, ...")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Folder for runs and report. Default: runs/TIER.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time. Default: CPU cores / the recipe's threads."),
    ] = None,
    data: DataFolder = None,
    workers: DecodingWorkers = None,
    skip_bad_images: SkipBadImages = 0,
    previous_checkpoint: PreviousCheckpoint = False,
    settings: Set = None,
) -> None:
    """Run all of a tier's settings and seeds, and report: table, figures, claims with verdicts.

    Where both backends are installed both run, and the report compares them. Keras runs on the
    engine that KERAS_BACKEND names.

    Interrupted (Ctrl-C, kill, power), the same command goes on where it stopped; runs that are
    complete in the folder are not run again.

    For example:

        antiparallel reproduce digits

        antiparallel reproduce digits --backend torch --seeds 10 --out runs/ten-seeds

        antiparallel reproduce digits --set epochs=3 --out runs/short

        antiparallel reproduce imagenette --data imagenette2-160 --seeds 1
    """
    began = time.perf_counter()
    folder = out or Path("runs") / tier
    with progress_bars() as progress:
        jobs = plan(
            tier,
            backends=list(dict.fromkeys(backend or _installed())),
            seeds=seeds,
            out=folder,
            data=_data(data, workers, skip_bad_images),
            overrides=parse_overrides(settings or []),
            previous_checkpoint=previous_checkpoint,
            watch_check=check_bar(progress),
        )
    at_once = processes or max(1, _cores() // jobs[0].recipe.threads)
    with Signals().caught() as signals, progress_bars() as progress:
        bars = Bars(progress, jobs)
        records = run_jobs(jobs, processes=at_once, signals=signals, watch=bars.watch)
    _exit_if_stopped(signals)
    _report(records, folder / "report")
    print_written("Runs:", [folder / "runs"])
    console.print(f"Done in {time.perf_counter() - began:.0f} s.", highlight=False)
    if any(record.status == "diverged" for record in records):
        raise typer.Exit(DIVERGED)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A name that `antiparallel recipes` lists.")],
    seed: Annotated[int, typer.Option(help="Seed of weights, feedback and order of data.")] = 0,
    backend: Annotated[str, typer.Option(help=f"Backend: {_BACKENDS}.")] = "torch",
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
    with Signals().caught() as signals, join(backend, resolved, place, sharded) as processes:
        console.quiet = errors.quiet = not processes.leads
        with progress_bars() as progress:
            check = check_bar(progress)

            def watch_check(done: int, total: int) -> None:
                check(done, total)
                if signals.received is not None:  # nothing is begun, so nothing is to be saved
                    raise typer.Exit(128 + signals.received)

            record = train_recipe(
                resolved,
                seed=seed,
                out=folder,
                backend=backend,
                data=_data(data, workers, skip_bad_images),
                overrides=overrides,
                resume=resume,
                previous_checkpoint=previous_checkpoint,
                stop=signals,
                watch=RunBar(progress, f"{recipe} seed {seed}", resolved.batch_size).show,
                watch_check=watch_check,
                processes=processes,
            )
        console.print(summary_line(record), highlight=False)
        print_written("Run:", [folder])
        if record.status == "stopped":
            errors.print(_STOPPED)
        received = max(map(int, processes.gather(b"%d" % (signals.received or 0))))
    if record.status == "stopped":
        raise typer.Exit(128 + received)
    if record.status == "diverged":
        raise typer.Exit(DIVERGED)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders with runs below.")],
    out: Annotated[Path, typer.Option(help="Folder to write the report to.")] = Path("report"),
) -> None:
    """Report on runs: table, figures, claims with verdicts.

    For example:

        antiparallel report runs/digits

        antiparallel report runs/digits/runs/torch/convnet-ss runs/mine --out runs/compared
    """
    _report(find_records(runs), out)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder: A.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another one's: B.")],
    anything: Annotated[
        bool, typer.Option("--any", help="Compare runs of different experiments too.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write the numbers to, as JSON.")
    ] = None,
) -> None:
    """Compare two runs, of any backends: metrics epoch by epoch, weights, feedback, answers.

    For example:

        antiparallel compare runs/ss runs/ss-again

        antiparallel compare runs/ss runs/fa --out runs/ss-and-fa
    """
    compared = compare_runs(first, second, anything=anything)
    print_runs(compared)
    if out is not None:
        print_written("Comparison:", [write_comparison(compared, out)])


@app.command()
def conformance(
    backend: Annotated[str, typer.Option(help="A registered backend, or MODULE:OBJECT.")] = "torch",
    profile: Annotated[
        Profile, typer.Option(help="How many examples each check gets.")
    ] = Profile.default,
    only: Annotated[
        list[str] | None, typer.Option(help="Name of a check to run; repeatable. Default: all.")
    ] = None,
) -> None:
    """Check whether a backend follows the specification; exit code 1 if it does not.

    For example:

        antiparallel conformance

        antiparallel conformance --backend my_package.backend:backend --profile quick
    """
    if not check_conformance(backend, profile.value, only or []):
        raise typer.Exit(1)


@app.command()
def recipes() -> None:
    """List the recipes that `antiparallel train` takes, and what each is."""
    for name, recipe in RECIPES.items():
        console.print(f"[bold]{name}[/]")
        fields = recipe.model_dump(exclude={"tier", "model", "setting"})
        console.print(
            "  " + "  ".join(f"{field}={value}" for field, value in fields.items()),
            highlight=False,
            markup=False,
        )


def _report(records: list[Record], out: Path) -> None:
    made = make_report(gather(records))
    for section in made.sections:
        print_section(section)
    for comparison in made.comparisons:
        print_comparison(comparison)
    print_written("Report:", write_report(made, out))


def _exit_if_stopped(signals: Signals) -> None:
    if signals.received is not None:
        errors.print(_STOPPED)
        raise typer.Exit(128 + signals.received)


def _installed() -> list[str]:
    if not (found := installed_backends()):
        raise SpecError(
            "Expected a backend to be installed: pip install 'antiparallel[torch]', or "
            "'antiparallel[keras]' and the engine that KERAS_BACKEND names. Received: none"
        )
    return found


def _data(root: Path | None, workers: int | None, skip_bad_images: int) -> Data:
    wanted = 2 if workers is None and root is not None else workers or 0
    return Data(root, wanted, skip_bad_images)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
