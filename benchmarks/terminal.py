"""What the command prints: tables, verdicts, progress bars."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from antiparallel.benchmarks.record import Position, Record
from antiparallel.benchmarks.report.comparison import Comparison
from antiparallel.benchmarks.report.pages import (
    SPREAD,
    Section,
    difference,
    duration,
    note,
    percent,
    points,
    pooled,
)
from antiparallel.benchmarks.reproduce import Finished, Job
from antiparallel.benchmarks.reproduce import Progress as Told

console = Console()
errors = Console(stderr=True)

_COLORS = {
    "supported": "green",
    "not supported": "red",
    "undecided": "yellow",
    "within": "green",
    "outside": "red",
}


def print_section(section: Section) -> None:
    """Print an experiment's table and its claims."""
    table = Table(title=f"{section.experiment.name}: {SPREAD}", title_justify="left")
    digits = section.experiment.tier == "digits"  # half of whose ten answers are five
    for header, right in (
        ("Setting", False),
        ("Name", False),
        ("Val. error %", True),
        *(() if digits else (("Top-5", True),)),
        ("Train error %", True),
        ("n", True),
        ("s / run", True),
    ):
        table.add_column(header, justify="right" if right else "left")
    for result in section.experiment.settings:
        remark = note(result)
        table.add_row(
            result.title + (f"\n[red]{escape(remark)}[/]" if remark else ""),
            result.setting,
            percent(result.error()),
            *(() if digits else (percent(result.error(metric="top5_error")),)),
            percent(result.error("train")),
            str(len(result.runs)),
            duration(result.seconds()),
        )
    console.print(table)
    _print_claims(section)


def _print_claims(section: Section) -> None:
    table = Table(
        title="Claims: each says that a sum of errors is below zero (95 % t-interval)",
        title_justify="left",
    )
    table.add_column("Claim")
    table.add_column("Mean \\[interval], points", justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("Verdict", no_wrap=True)
    for judgement in section.judgements:
        table.add_row(
            f"{judgement.claim.text}\n[dim]{escape(judgement.claim.formula)}[/]",
            escape(points(judgement)),
            str(len(judgement.seeds)),
            f"[{_COLORS[judgement.verdict]}]{judgement.verdict}[/]",
        )
    console.print(table)


def print_comparison(comparison: Comparison) -> None:
    """Print two backends side by side."""
    table = Table(title=f"{comparison.name}: validation error %, {SPREAD}", title_justify="left")
    table.add_column("Setting")
    for header in (comparison.first.backend, comparison.second.backend):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("Difference", "Spread", "n"):
        table.add_column(header, justify="right")
    table.add_column("Within spread?")
    for row in comparison.rows:
        table.add_row(
            row.setting,
            percent(row.first),
            percent(row.second),
            difference(row),
            pooled(row),
            str(row.first.n),
            f"[{_COLORS[row.agreement]}]{row.agreement}[/]",
        )
    console.print(table)


def print_written(title: str, paths: Sequence[Path]) -> None:
    """Print where things were written, one path a line, whole even if it is long."""
    console.print(title)
    for path in paths:
        console.print(f"  {path}", soft_wrap=True, highlight=False, markup=False)


def summary_line(record: Record) -> str:
    """Return a run's outcome in a line."""
    if not record.epochs:
        return f"{record.name}: {record.status}"
    error = 100 * record.epochs[-1].validation["error"]
    return f"{record.name}: {record.status}, val. error {error:.2f} %, {record.seconds:.1f} s"


class Bars:
    """A bar for each run at work, and one for all of them."""

    def __init__(self, progress: Progress, jobs: Sequence[Job]) -> None:
        self._progress = progress
        self._all = progress.add_task("all runs", total=len(jobs), remark="")
        self._tasks: dict[Path, TaskID] = {}

    def watch(self, told: Told | Finished) -> None:
        """Show what a worker tells."""
        if isinstance(told, Finished):
            if (task := self._tasks.pop(told.job.out, None)) is not None:
                self._progress.remove_task(task)
            self._progress.console.print(summary_line(told.record), highlight=False)
            self._progress.advance(self._all)
        else:
            self.show(told.job, told.position)

    def show(self, job: Job, position: Position) -> None:
        """Move a run's bar."""
        if job.out not in self._tasks:
            self._tasks[job.out] = self._progress.add_task(
                f"{job.recipe.name} seed {job.seed}", total=job.recipe.epochs, remark=""
            )
        self._progress.update(
            self._tasks[job.out], completed=position.epoch, remark=error_so_far(position)
        )


def error_so_far(position: Position) -> str:
    """Return the last validation error in words; empty before the first."""
    if not position.history:
        return ""
    return f"val. error {100 * position.history[-1].validation['error']:.1f} %"


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show progress bars; on something that is no terminal, only lines that are printed."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress
