"""``antiparallel report``."""

from pathlib import Path
from typing import Annotated

import typer

from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.report.pages import make_report, write_report
from antiparallel.benchmarks.report.results import find_records, gather
from antiparallel.benchmarks.terminal import print_comparison, print_section, print_written


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders with runs below.")],
    out: Annotated[Path, typer.Option(help="Folder to write the report to.")] = Path("report"),
) -> None:
    """Report on runs: table, figures, claims with verdicts.

    For example:

        antiparallel report runs/digits

        antiparallel report runs/digits/runs/torch/convnet-ss runs/mine --out runs/compared
    """
    report_on(find_records(runs), out)


def report_on(records: list[Record], out: Path) -> None:
    """Print a report on records, and write it to a folder."""
    made = make_report(gather(records))
    for section in made.sections:
        print_section(section)
    for comparison in made.comparisons:
        print_comparison(comparison)
    print_written("Report:", write_report(made, out))
