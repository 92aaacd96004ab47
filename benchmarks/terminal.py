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
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.report.claims import Judgement
from antiparallel.benchmarks.report.comparison import Comparison
from antiparallel.benchmarks.report.measures import Measure, headline, task_of
from antiparallel.benchmarks.report.pages import SPREAD, Section
from antiparallel.benchmarks.report.results import Spread
from antiparallel.benchmarks.report.runs import Run
from antiparallel.benchmarks.report.words import (
    difference,
    duration,
    interval,
    judged_over,
    note,
    number,
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
    experiment = section.experiment
    table = Table(title=f"{experiment.name}: {SPREAD}", title_justify="left")
    measures = _shown_of(section)
    table.add_column("Setting")
    table.add_column("Name")
    for header in (*(measure.head for measure in measures), "n", "s / run"):
        table.add_column(header, justify="right")
    for result in experiment.settings:
        remark = note(result)
        table.add_row(
            result.title + (f"\n[red]{escape(remark)}[/]" if remark else ""),
            result.setting,
            *(number(result.spread(measure), measure) for measure in measures),
            str(len(result.runs)),
            duration(result.seconds()),
        )
    console.print(table)
    _print_claims(section)


def _shown_of(section: Section) -> list[Measure]:
    """Return the measures that a terminal has room for."""
    digits = section.experiment.tier == "digits"  # half of whose ten answers are five
    return [
        measure
        for measure in section.experiment.measures
        if measure.brief and not (digits and measure.name == "top5_error")
    ]


def _print_claims(section: Section) -> None:
    if not section.judgements:
        return
    table = Table(
        title="Claims: each says that a sum is below zero (95 % t-interval)",
        title_justify="left",
    )
    table.add_column("Claim")
    table.add_column("Mean \\[interval]", justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("Verdict", no_wrap=True)
    for judgement in section.judgements:
        table.add_row(
            f"{judgement.claim.text}\n[dim]{escape(_basis(judgement))}[/]",
            escape(interval(judgement)),
            judged_over(judgement),
            f"[{_COLORS[judgement.verdict]}]{judgement.verdict}[/]",
        )
    console.print(table)


def _basis(judgement: Judgement) -> str:
    """Return what a claim's sum is, and what else must be said of it."""
    return "; ".join(filter(None, (judgement.claim.formula, judgement.remark)))


def print_comparison(comparison: Comparison) -> None:
    """Print two backends side by side."""
    table = Table(
        title=f"{comparison.name}: {comparison.measure.head}, {SPREAD}", title_justify="left"
    )
    table.add_column("Setting")
    for header in (comparison.first.backend, comparison.second.backend):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("Difference", "Spread", "n"):
        table.add_column(header, justify="right")
    table.add_column("Within spread?")
    for row in comparison.rows:
        table.add_row(
            row.setting,
            number(row.first, comparison.measure),
            number(row.second, comparison.measure),
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
    _print_epochs(comparison)
    parted = "never" if comparison.parted is None else f"in epoch {comparison.parted + 1}"
    console.print(f"Metrics first differ: {parted}.", highlight=False)
    _print_losses(comparison)
    _print_tensors(comparison)
    _print_answers(comparison)


_HEADERS = {
    ("train", "loss"): "Train loss",
    ("train", "classification"): "class",
    ("train", "regression"): "boxes",
    ("train", "error"): "Train error",
    ("validation", "loss"): "Val. loss",
    ("validation", "classification"): "class",
    ("validation", "regression"): "boxes",
    ("validation", "error"): "Val. error",
    ("validation", "top5_error"): "Val. top-5",
    ("validation", "ap"): "AP",
    ("validation", "ap50"): "AP50",
    ("validation", "ap75"): "AP75",
}
"""Metrics of an epoch that a terminal has room for: errors and precisions are shown in points."""

_IN_NATS = ("loss", "classification", "regression")


def _print_epochs(comparison: RunComparison) -> None:
    present = {
        (part, metric)
        for epoch in comparison.epochs
        for part in ("train", "validation")
        for metric in getattr(epoch, part)
    }
    shown = [place for place in _HEADERS if place in present]
    table = Table(
        title="B minus A after each epoch; errors and precisions in points", title_justify="left"
    )
    for header in ("Epoch", *(_HEADERS[place] for place in shown)):
        table.add_column(header, justify="right")
    for epoch in comparison.epochs:
        found = (getattr(epoch, part).get(metric) for part, metric in shown)
        factors = (1 if metric in _IN_NATS else 100 for _, metric in shown)
        table.add_row(str(epoch.epoch + 1), *map(_signed, found, factors))
    console.print(table)


def _print_losses(comparison: RunComparison) -> None:
    for name, losses in comparison.losses.items():
        kind = "Losses" if name == "loss" else f"{name.capitalize()} losses"
        first, by_percent = (
            "at none" if update is None else f"at update {update}"
            for update in (losses.parted, losses.parted_by_percent)
        )
        console.print(
            f"{kind} of {losses.updates} updates first differ: {first}; by more than 1 %: "
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
    for header in ("Rate", *(one.measure.head for one in found[:1]), "Train loss", "n", "Diverged"):
        table.add_column(header, justify="right")
    for one in found:
        table.add_row(
            f"{one.rate:g}",
            number(one.score, one.measure),
            f"{one.loss.mean:.3f}" if one.loss.n else "-",
            str(one.loss.n),
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
    measure = headline(task_of(record.recipe))
    score = number(Spread.of([measure.of(Run(record))]), measure)
    return f"{record.name}: {record.status}, {measure.brief} {score} %, {record.seconds:.1f} s"


class RunBar:
    """A run's bar.

    Args:
        bars: Where it is shown.
        name: What stands before it.
        recipe: What is trained.
    """

    def __init__(self, bars: Progress, name: str, recipe: Recipe) -> None:
        self._bars = bars
        self._name = name
        self._batch_size = recipe.batch_size
        self._measure = headline(task_of(recipe))
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
        score = told.validation.get(self._measure.name)
        remark = "" if score is None else f"{self._measure.brief} {100 * score:.1f} %"
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
                self._runs[job.out] = RunBar(self._bars, name, job.recipe)
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
def progress_bars(*, by_itself: bool = True) -> Iterator[Progress]:
    """Show progress bars; on something that is no terminal, only lines that are printed.

    Args:
        by_itself: Whether a thread keeps them fresh, which takes time from what is measured.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(
        *columns, console=console, disable=not console.is_terminal, auto_refresh=by_itself
    ) as progress:
        yield progress
