"""``antiparallel report``."""

from pathlib import Path
from typing import Annotated

import typer

from antiparallel.benchmarks.report.pages import make_report, write_report
from antiparallel.benchmarks.report.results import gather
from antiparallel.benchmarks.report.runs import Run, find_runs
from antiparallel.benchmarks.terminal import print_comparison, print_section, print_written


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders with runs below.")],
    out: Annotated[Path, typer.Option(help="Folder to write the report to.")] = Path("report"),
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of a detector's pictures, to draw on them what was found."),
    ] = None,
) -> None:
    """Report on runs: table, figures, claims with verdicts.

    Detectors' boxes are drawn on empty pictures, unless --data says where the data set is. A report
    of coco and an image tier on one backend also judges the claim that compares them.

    For example:

        antiparallel report runs/digits

        antiparallel report runs/digits/runs/torch/convnet-ss runs/mine --out runs/compared

        antiparallel report runs/coco-tiny runs/imagenette --data coco
    """
    report_on(find_runs(runs), out, data)


def report_on(runs: list[Run], out: Path, pictures: Path | None) -> None:
    """Print a report on runs, and write it to a folder.

    Args:
        runs: The runs.
        out: The folder.
        pictures: See ``make_report``.
    """
    made = make_report(gather(runs), pictures)
    for section in made.sections:
        print_section(section)
    for comparison in made.comparisons:
        print_comparison(comparison)
    print_written("Report:", write_report(made, out))
