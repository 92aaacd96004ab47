"""What the command prints: tables, verdicts, progress bars."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from antiparallel.benchmarks.compare import Comparison as RunComparison
from antiparallel.benchmarks.data.splits import Watch
from antiparallel.benchmarks.loop import Progress as RunProgress
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.report.comparison import Comparison
from antiparallel.benchmarks.report.pages import SPREAD, Section
from antiparallel.benchmarks.report.words import (
    difference,
    duration,
    judged_over,
    note,
    percent,
    points,
    pooled,
)
from antiparallel.benchmarks.reproduce import Finished, Job, Told
from antiparallel.benchmarks.search import Tried
from antiparallel.benchmarks.signals import Signals

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
    if not section.judgements:
        return
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
            judged_over(judgement),
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


def print_runs(comparison: RunComparison) -> None:
    """Print two runs side by side: epochs, weights, answers."""
    first, second = comparison.first, comparison.second
    console.print(f"A: {first.name} ({first.status})", highlight=False)
    console.print(f"B: {second.name} ({second.status})", highlight=False)
    for field, (ours, theirs) in comparison.recipe.items():
        console.print(f"  {field}: {ours} and {theirs}", highlight=False, markup=False)
    table = Table(title="B minus A after each epoch; errors in points", title_justify="left")
    for header in ("Epoch", "Train loss", "Train error", "Val. loss", "Val. error", "Val. top-5"):
        table.add_column(header, justify="right")
    for epoch in comparison.epochs:
        table.add_row(
            str(epoch.epoch + 1),
            *(
                _signed(part.get(metric), 1 if metric == "loss" else 100)
                for part, metrics in (
                    (epoch.train, ("loss", "error")),
                    (epoch.validation, ("loss", "error", "top5_error")),
                )
                for metric in metrics
            ),
        )
    console.print(table)
    parted = "never" if comparison.parted is None else f"in epoch {comparison.parted + 1}"
    console.print(f"Metrics first differ: {parted}.", highlight=False)
    _print_losses(comparison)
    _print_tensors(comparison)
    _print_answers(comparison)


def _print_losses(comparison: RunComparison) -> None:
    if (losses := comparison.losses) is None:
        return
    first, by_percent = (
        "at none" if update is None else f"at update {update}"
        for update in (losses.parted, losses.parted_by_percent)
    )
    console.print(
        f"Losses of {losses.updates} updates first differ: {first}; by more than 1 %: "
        f"{by_percent}; at most by {100 * losses.largest:.3g} %.",
        highlight=False,
    )


def _signed(value: float | None, factor: int) -> str:
    return "-" if value is None else f"{factor * value:+.3g}"


def _print_tensors(comparison: RunComparison) -> None:
    if comparison.updates is None:
        console.print("No distances: a run has no checkpoint.")
        return
    if comparison.tensors:
        after = " and ".join(str(update) for update in dict.fromkeys(comparison.updates))
        table = Table(title=f"Weights and stored B, update {after}", title_justify="left")
        table.add_column("Tensor")
        table.add_column("|A - B| / |A|", justify="right")
        table.add_column("Same signs %", justify="right")
        for tensor in comparison.tensors:
            signs = f"{100 * tensor.same_signs:.2f}"
            table.add_row(escape(tensor.name), f"{tensor.relative:.3g}", signs)
        console.print(table)
    else:
        console.print("No distances: the checkpoints have no name in common.")
    if comparison.alone and comparison.tensors:
        names = ", ".join(comparison.alone)
        console.print(f"In one run only: {names}", highlight=False, markup=False)


def _print_answers(comparison: RunComparison) -> None:
    if (answers := comparison.answers) is None:
        return
    text = f"Answers differ on {answers.different} of {answers.pictures} validation pictures."
    if answers.p is not None:
        text += (
            f" Only A is right on {answers.first_only}, only B on {answers.second_only}: "
            f"p = {answers.p:.3g} (McNemar, exact)."
        )
    console.print(text, highlight=False)


def print_search(found: Sequence[Tried]) -> None:
    """Print a learning-rate search, the best rate first."""
    table = Table(title=f"Learning rates, the best first: {SPREAD}", title_justify="left")
    for header in ("Rate", "Val. error %", "Train loss", "n", "Diverged"):
        table.add_column(header, justify="right")
    for one in found:
        table.add_row(
            f"{one.rate:g}",
            percent(one.error),
            f"{one.loss.mean:.3f}" if one.loss.n else "-",
            str(one.error.n),
            str(one.diverged or ""),
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


class RunBar:
    """A run's bar.

    Args:
        bars: Where it is shown.
        name: What stands before it.
        batch_size: Pictures an update, for the rate.
    """

    def __init__(self, bars: Progress, name: str, batch_size: int) -> None:
        self._bars = bars
        self._name = name
        self._batch_size = batch_size
        self._task: TaskID | None = None

    def show(self, told: RunProgress) -> None:
        """Move the bar."""
        if self._task is None:  # only now, so that work of earlier processes has no rate
            self._task = self._bars.add_task(
                self._name,
                total=told.total,
                completed=told.updates,
                batch_size=self._batch_size,
                remark="",
            )
        error = told.validation.get("error")
        remark = "" if error is None else f"val. error {100 * error:.1f} %"
        self._bars.update(self._task, completed=told.updates, remark=remark)

    def remove(self) -> None:
        """Take the bar away."""
        if self._task is not None:
            self._bars.remove_task(self._task)


class Bars:
    """A bar for each run at work, and one for all of them."""

    def __init__(self, bars: Progress, jobs: Sequence[Job]) -> None:
        self._bars = bars
        self._all = bars.add_task("all runs", total=len(jobs), remark="")
        self._runs: dict[Path, RunBar] = {}

    def watch(self, told: Told | Finished) -> None:
        """Show what a worker tells."""
        job = told.job
        if isinstance(told, Finished):
            if (bar := self._runs.pop(job.out, None)) is not None:
                bar.remove()
            self._bars.console.print(summary_line(told.record), highlight=False)
            self._bars.advance(self._all)
        else:
            if job.out not in self._runs:
                name = f"{job.recipe.name} {job.backend} seed {job.seed}"
                self._runs[job.out] = RunBar(self._bars, name, job.recipe.batch_size)
            self._runs[job.out].show(told.progress)


class _Rate(ProgressColumn):
    """Pictures a second, for what has a batch size."""

    def render(self, task: Task) -> Text:
        batch_size = task.fields.get("batch_size")
        if batch_size is None or not task.speed:
            return Text("")
        return Text(f"{task.speed * batch_size:.0f} pictures/s")


def pictures_bar(bars: Progress, name: str, signals: Signals | None = None) -> Watch:
    """Return what shows work on pictures, if it takes longer than a second.

    Args:
        bars: Where it is shown.
        name: What the work is.
        signals: One of them ends the process, where nothing is left to be saved.
    """
    began = time.monotonic()
    task = bars.add_task(name, total=None, batch_size=1, remark="", visible=False)

    def watch(done: int, total: int) -> None:
        visible = done < total and time.monotonic() - began > 1
        bars.update(task, completed=done, total=total, visible=visible)
        if signals is not None:
            signals.exit()

    return watch


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show progress bars; on something that is no terminal, only lines that are printed."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress
