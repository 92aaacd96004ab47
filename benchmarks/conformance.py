"""The conformance suite, shown in a terminal."""

from collections import Counter
from typing import TYPE_CHECKING, cast

from rich.markup import escape
from rich.table import Table

from antiparallel.benchmarks.terminal import console, progress_bars

if TYPE_CHECKING:  # imported when it is asked for: the suite is an extra of its own
    from antiparallel.conformance import Profile
    from antiparallel.conformance.records import Record


def check_conformance(backend: str, profile: str, only: list[str]) -> bool:
    """Run the suite on a backend, print a table and every failure, return whether all is well.

    Raises:
        SpecError: There is no such backend, profile or check.
    """
    from antiparallel.conformance import check_backend

    with progress_bars() as progress:
        task = progress.add_task(f"conformance of {backend}", total=None, remark="")

        def watch(record: "Record", done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, remark=record.check)

        records = check_backend(
            backend, profile=cast("Profile", profile), only=only, progress=watch
        )
    _print_records(records)
    return not any(record.status == "failed" for record in records)


def _print_records(records: "list[Record]") -> None:
    table = Table("Clause", "Check", "Examples", "Seconds", "Status")
    for record in records:
        color = {"passed": "green", "failed": "red"}.get(record.status, "yellow")
        table.add_row(
            record.clause,
            record.check,
            str(record.examples),
            f"{record.seconds:.1f}",
            f"[{color}]{record.status}[/]",
        )
    console.print(table)
    for record in records:
        if record.message:
            console.print(f"[bold]{record.check}[/]: {escape(record.message)}")
            console.print(record.reproduce, markup=False, highlight=False, soft_wrap=True)
    counts = Counter(record.status for record in records)
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()))
