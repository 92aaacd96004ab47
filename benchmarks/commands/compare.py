"""``antiparallel compare``."""

from pathlib import Path
from typing import Annotated

import typer

from antiparallel.benchmarks.compare import compare_runs, write_comparison
from antiparallel.benchmarks.terminal import print_runs, print_written


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
