"""``antiparallel reproduce``."""

import time
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
    installed,
    require_no_launcher,
)
from antiparallel.benchmarks.commands.report import report_on
from antiparallel.benchmarks.recipes import TIERS, parse_overrides
from antiparallel.benchmarks.report.runs import find_runs
from antiparallel.benchmarks.reproduce import plan, run_jobs
from antiparallel.benchmarks.signals import Signals
from antiparallel.benchmarks.terminal import (
    Bars,
    console,
    pictures_bar,
    print_written,
    progress_bars,
)


def reproduce(
    tier: Annotated[str, typer.Argument(help=f"Size of the experiment: {', '.join(TIERS)}.")],
    backend: Annotated[
        list[str] | None,
        typer.Option(help=f"Backend: {BACKENDS}; repeatable. Default: all that are installed."),
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
    require_no_launcher()
    began = time.perf_counter()
    folder = out or Path("runs") / tier
    with progress_bars() as progress:
        jobs = plan(
            tier,
            backends=list(dict.fromkeys(backend or installed())),
            seeds=seeds,
            out=folder,
            data=data_from(data, workers, skip_bad_images),
            overrides=parse_overrides(settings or []),
            previous_checkpoint=previous_checkpoint,
            watch_check=pictures_bar(progress, "checking pictures"),
        )
    with Signals().caught() as signals, progress_bars() as progress:
        bars = Bars(progress, jobs)
        records = run_jobs(
            jobs, processes=processes or at_once(jobs[0].recipe), signals=signals, watch=bars.watch
        )
    exit_if_stopped(signals)
    report_on(find_runs(job.out for job in jobs), folder / "report", data)
    print_written("Runs:", [folder / "runs"])
    console.print(f"Done in {time.perf_counter() - began:.0f} s.", highlight=False)
    if any(record.status == "diverged" for record in records):
        raise typer.Exit(DIVERGED)
