"""``antiparallel startup``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from antiparallel.benchmarks.commands.options import BACKENDS, installed
from antiparallel.benchmarks.speed.startup import measure_startup, milliseconds, write_startup
from antiparallel.benchmarks.stepper import require_backend
from antiparallel.benchmarks.terminal import console, print_written, progress_bars
from antiparallel.spec import as_rule


def startup(
    backend: Annotated[
        list[str] | None,
        typer.Option(help=f"{BACKENDS}; repeatable. Default: all that are installed."),
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help="A rule; repeatable. Default: ss and fa.")
    ] = None,
    times: Annotated[int, typer.Option(min=1, help="How often everything is timed.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the feedback.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/startup"),
) -> None:
    """Measure what is paid once: importing a backend, and converting a ResNet-152.

    For example:

        antiparallel startup --backend torch --times 3
    """
    rules = [as_rule(name).name for name in rule or ["ss", "fa"]]
    backends = backend or installed()
    for name in backends:
        require_backend(name)
    for name in backends:
        with progress_bars() as bars:
            task = bars.add_task(name, total=times, remark="")
            found = measure_startup(
                name, rules, times=times, seed=seed, watch=partial(bars.advance, task)
            )
        table = Table(
            title=f"{found.framework}: milliseconds, median (range), n = {times}",
            title_justify="left",
        )
        for what in found.seconds:
            table.add_column(what, justify="right")
        table.add_row(*map(milliseconds, found.seconds.values()))
        console.print(table)
        print_written("Written:", write_startup(found, out))
