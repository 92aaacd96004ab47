"""``antiparallel search-lr``."""

from pathlib import Path
from typing import Annotated

import typer

from antiparallel.benchmarks.commands.options import (
    BACKENDS,
    DIVERGED,
    DataFolder,
    DecodingWorkers,
    PreviousCheckpoint,
    Set,
    SkipBadImages,
    at_once,
    data_from,
    exit_if_stopped,
    require_no_launcher,
)
from antiparallel.benchmarks.recipes import find_recipe, override, parse_overrides
from antiparallel.benchmarks.reproduce import run_jobs
from antiparallel.benchmarks.search import RATES, plan_search, tried, write_search
from antiparallel.benchmarks.signals import Signals
from antiparallel.benchmarks.terminal import (
    Bars,
    pictures_bar,
    print_search,
    print_written,
    progress_bars,
)
from antiparallel.spec import SpecError


def search_lr(
    recipe: Annotated[str, typer.Argument(help="A name that `antiparallel recipes` lists.")],
    rates: Annotated[
        str, typer.Option(metavar="RATE,RATE,...", help="Learning rates of the first epoch.")
    ] = ",".join(map(str, RATES)),
    backend: Annotated[str, typer.Option(help=f"Backend: {BACKENDS}.")] = "torch",
    seeds: Annotated[int, typer.Option(help="Runs of each rate, with seeds 0, 1, ...")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs. Default: runs/RECIPE/search-lr.")
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
    """Train a recipe at several learning rates, and tell which is best.

    It is the one that leaves the lowest validation error or, of a detector, the highest average
    precision; of equal ones, the lowest training loss.

    Every rate begins with the same weights, feedback and order of pictures, and falls where the
    recipe says. Interrupted, the same command goes on.

    For example:

        antiparallel search-lr digits/convnet-ss

        antiparallel search-lr imagenette/resnet18-fa --data imagenette2-160 --set epochs=2
    """
    require_no_launcher()
    overrides = parse_overrides(settings or [])
    resolved = override(find_recipe(recipe), overrides)
    folder = out or Path("runs") / resolved.name / "search-lr"
    with progress_bars() as progress:
        jobs = plan_search(
            resolved,
            _numbers(rates),
            backend=backend,
            seeds=seeds,
            out=folder,
            data=data_from(data, workers, skip_bad_images),
            overrides=overrides,
            previous_checkpoint=previous_checkpoint,
            watch_check=pictures_bar(progress, "checking pictures"),
        )
    with Signals().caught() as signals, progress_bars() as progress:
        records = run_jobs(
            jobs,
            processes=processes or at_once(resolved),
            signals=signals,
            watch=Bars(progress, jobs).watch,
        )
    exit_if_stopped(signals)
    found = tried(records)
    print_search(found)
    print_written("Search:", [write_search(found, records, folder)])
    if not any(one.loss.n for one in found):
        raise typer.Exit(DIVERGED)


def _numbers(text: str) -> list[float]:
    try:
        return [float(rate) for rate in text.split(",")]
    except ValueError as error:
        raise SpecError(
            f"Expected learning rates with commas between them. Received: --rates {text}"
        ) from error
