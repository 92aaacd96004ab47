"""``antiparallel speed``."""

import os
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from antiparallel.benchmarks.commands.options import BACKENDS, installed
from antiparallel.benchmarks.launch import launch
from antiparallel.benchmarks.processes import ALONE_HERE, find_place
from antiparallel.benchmarks.speed.case import PROCESSES, Case, Model, Precision, Way
from antiparallel.benchmarks.speed.instructions import require_countable
from antiparallel.benchmarks.speed.limits import PEERS
from antiparallel.benchmarks.speed.plan import plan, plan_cases
from antiparallel.benchmarks.speed.record import SpeedRecord, read_records, write_record
from antiparallel.benchmarks.speed.report import write_report
from antiparallel.benchmarks.speed.run import Watch, has_memory, run_jobs
from antiparallel.benchmarks.speed.summary import BRIEF, HEADS, cells_of, in_words, rows_of
from antiparallel.benchmarks.terminal import console, errors, print_written, progress_bars
from antiparallel.spec import SpecError

_USUAL = Case()


def _one_of(literal: object) -> str:
    return ", ".join(get_args(literal))


def speed(
    model: Annotated[
        list[str] | None, typer.Option(help=f"{_one_of(Model)}; repeatable. Default: resnet18.")
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Pictures in a step; repeatable. Default: 32.")
    ] = None,
    pixels: Annotated[int, typer.Option(help="Height and width of pictures.")] = _USUAL.pixels,
    rule: Annotated[
        list[str] | None, typer.Option(help="A rule; repeatable. Default: ss and fa.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help=f"{BACKENDS}; repeatable. Default: all that are installed."),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="torch.compile, or Keras's jit_compile.")
    ] = False,
    precision: Annotated[str, typer.Option(help=_one_of(Precision))] = _USUAL.precision,
    error_dtype: Annotated[
        str | None,
        typer.Option(
            help=f"What errors are rounded to on their way through B: {_one_of(Precision)}."
        ),
    ] = _USUAL.error_dtype,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="torch's memory format.")
    ] = False,
    way: Annotated[str, typer.Option(help=f"Way of training: {_one_of(Way)}.")] = _USUAL.way,
    parts: Annotated[
        int, typer.Option(help="Parts of a batch: small batches, processes or devices.")
    ] = _USUAL.parts,
    threads: Annotated[int, typer.Option(help="CPU threads of a process.")] = _USUAL.threads,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = _USUAL.device,
    width: Annotated[
        list[int] | None, typer.Option(help="Channels of a convnet's layers; repeatable.")
    ] = None,
    depth: Annotated[
        list[int] | None, typer.Option(help="Number of a convnet's layers; repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 30,
    memory: Annotated[
        bool, typer.Option(help="Measure peak memory too, in processes of its own.")
    ] = True,
    instructions: Annotated[
        bool,
        typer.Option(
            "--instructions", help="Count a step's instructions too, by valgrind: for one thread."
        ),
    ] = False,
    peer: Annotated[
        list[str] | None,
        typer.Option(help=f"A library to measure beside ours: {', '.join(PEERS)}."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of weights, feedback, pictures and order.")
    ] = _USUAL.seed,
    out: Annotated[Path, typer.Option(help="Folder of records and report.")] = Path("runs/speed"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Measure again what was measured.")
    ] = False,
) -> None:
    """Measure what a rule's step takes beside plain backprop's: time and memory.

    Every round runs each rule's step, plain backprop's and a second copy's of that, which shows the
    noise, in random order in one process. Every combination of options that are given several
    times is measured. The folder gets a record of each, and a report on all records in it.

    For example:

        antiparallel speed --model resnet18 --batch 32 --pixels 64

        antiparallel speed --model resnet18 --backend torch --compiled --precision bfloat16

        antiparallel speed --model resnet18 --backend torch --way ddp --parts 2

        antiparallel speed --model convnet --pixels 32 --width 16 --width 32 --width 64
    """
    cases = plan_cases(
        model or [_USUAL.model],
        batch or [_USUAL.batch],
        width or [],
        depth or [],
        {
            "pixels": pixels,
            "compiled": compiled,
            "precision": precision,
            "error_dtype": error_dtype,
            "channels_last": channels_last,
            "way": way,
            "parts": parts,
            "threads": threads,
            "device": device,
            "seed": seed,
        },
    )
    jobs = plan(
        cases, backend or installed(), rule or ["ss", "fa"], peer or [], out, overwrite=overwrite
    )
    for job in jobs if instructions else ():
        require_countable(job.case, job.backend)
    read_records(out)  # which the report will be on: the damaged are refused now
    place = find_place(os.environ)
    processes = parts if way in PROCESSES else 1
    if processes > 1 and place == ALONE_HERE:
        raise typer.Exit(launch(processes, sys.argv[1:]))
    if place.part.world != processes:
        raise SpecError(
            f"Expected {processes} processes for --way {way} --parts {parts}. "
            f"Received: {place.part.world} from a launcher"
        )
    leads = place.part.rank == 0
    console.quiet = errors.quiet = not leads
    report: list[Path] = []
    with progress_bars(by_itself=False) as bars:
        measured = run_jobs(
            jobs,
            rounds=rounds,
            memory=memory,
            instructions=instructions,
            watch=lambda job: _bar(bars, job.path.stem),
        )
        for record in measured:
            _print_speed(record)
            if leads:
                write_record(record, out)
                report = write_report(out)
    if memory and not all(map(has_memory, jobs)):
        console.print("Memory of several processes is not measured.", highlight=False)
    print_written("Report:", report)


def _bar(bars: Progress, name: str) -> Watch:
    """Return what shows a case's progress."""
    task = bars.add_task(name, total=None, remark="")

    def watch(what: str, done: int, total: int) -> None:
        bars.update(task, completed=done, total=total, remark=what, refresh=True)

    return watch


def _print_speed(record: SpeedRecord) -> None:
    """Print a case's table."""
    rows = rows_of(record)
    table = Table(
        title=f"{record.framework} {record.case.name}: median of the ratios within "
        f"{record.rounds} rounds \\[95 % interval]; the control's is "
        f"{escape(in_words(rows[0].control))}",
        title_justify="left",
    )
    table.add_column("Rule")
    for head in BRIEF:
        table.add_column(head[0].upper() + head[1:], justify="right")
    for row in rows:
        cells = dict(zip(HEADS, cells_of(row), strict=True))
        table.add_row(row.name, *(escape(cells[head]) for head in BRIEF))
    console.print(table)
