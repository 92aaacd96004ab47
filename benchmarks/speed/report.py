"""The report on all records in a folder: speed.md and its figures."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from antiparallel.benchmarks.files import write_atomically
from antiparallel.benchmarks.report.looks import image
from antiparallel.benchmarks.speed.contender import PLAIN
from antiparallel.benchmarks.speed.figures import CAPTIONS, draw_growth, draw_speed
from antiparallel.benchmarks.speed.growth import Growth, growth_of, power
from antiparallel.benchmarks.speed.record import SpeedRecord, read_records
from antiparallel.benchmarks.speed.summary import HEADS, cells_of, rows_of

_CASE = ("case", "framework", "rule")
_GROWTH = ("grows", "framework", "rule", "with", "n", "time", "memory")

_CAPTION = (
    "Median of the ratios within rounds, with its 95 % interval (order statistics, no "
    "distribution assumed). Every round runs each contender's step once, in random order, within "
    "one process. `plain` is the library's own model, never converted; the control is a second "
    "copy of it, whose ratio shows the noise. Memory: the most that a process takes in a few "
    "steps, without the libraries' own, median of processes, over plain backprop's."
)

_INSTRUCTIONS = (
    "Counted by valgrind's callgrind, one step after two, one thread, with AVX2. They say nothing "
    "of memory. What else a machine does changes them little: see the control."
)


def write_report(folder: Path) -> list[Path]:
    """Write the report on a folder's records into it.

    Args:
        folder: At least one record is in it.

    Returns:
        The files: the page first.

    Raises:
        SpecError: A record is damaged.
    """
    records = read_records(folder)
    grown = growth_of(records)
    others = [record for record in records if record.case.model != "convnet"]
    figures = {"speed": draw_speed(others or records)}
    if grown:
        figures["growth"] = draw_growth(grown)
    parts = [
        "# Step time and memory beside plain backprop's",
        _table((*_CASE, *HEADS), (cells for record in records for cells in _cells(record))),
        _CAPTION,
        _picture("speed"),
    ]
    if told := [cells for record in records for cells in _collectives(record)]:
        parts += ["## Collective operations of one step", _table((*_CASE, "operations"), told)]
    if counted := [cells for record in records for cells in _instructions(record)]:
        heads = (*_CASE, "instructions", "/ plain")
        parts += ["## Instructions of one step", _table(heads, counted), _INSTRUCTIONS]
    if grown:
        parts += ["## Growth", _table(_GROWTH, map(_growth_cells, grown)), _picture("growth")]
    parts += ["## Where the numbers come from", *_origins(records)]
    paths = [folder / "speed.md", *(folder / f"{name}.png" for name in figures)]
    for path, figure in zip(paths[1:], figures.values(), strict=True):
        write_atomically(path, image(figure, "png"))
    write_atomically(paths[0], ("\n\n".join(parts) + "\n").encode())
    return paths


def _cells(record: SpeedRecord) -> Iterable[Sequence[str]]:
    for row in rows_of(record):
        yield record.case.name, record.framework, f"`{row.name}`", *cells_of(row)


def _collectives(record: SpeedRecord) -> Iterable[Sequence[str]]:
    for name, counts in record.collectives.items():
        told = ", ".join(f"{number} {operation}" for operation, number in counts.items())
        yield record.case.name, record.framework, f"`{name}`", told or "none"


def _instructions(record: SpeedRecord) -> Iterable[Sequence[str]]:
    plain = record.instructions.get(PLAIN)
    for name, number in record.instructions.items():
        ratio = f"{number / plain:.4f}" if plain else "none"
        yield record.case.name, record.framework, f"`{name}`", f"{number:,}", ratio


def _growth_cells(one: Growth) -> Sequence[str]:
    return (
        f"{one.axis}, {one.sizes[0]} to {one.sizes[-1]}",
        one.framework,
        f"`{one.name}`",
        one.fixed,
        str(len(one.sizes)),
        power(one.exponent(one.seconds)),
        power(one.exponent(one.memory)) if one.memory else "not measured",
    )


def _origins(records: Sequence[SpeedRecord]) -> Iterable[str]:
    """Tell of each command what it measured, how, on what, and with what."""
    alike: dict[tuple[str, ...], list[SpeedRecord]] = {}
    for record in records:
        origin = record.origin
        engine = f"KERAS_BACKEND={record.engine} " if record.engine else ""
        versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
        told = (f"`{engine}{origin.command}`", origin.host, versions, origin.commit or "none")
        alike.setdefault(told, []).append(record)
    for (command, host, versions, commit), measured in alike.items():
        cases = ", ".join(f"{record.framework} {record.case.name}" for record in measured)
        started = min(record.origin.started for record in measured)
        loads = [load for record in measured for load in record.load]
        yield (
            f"{command}: {cases}; seed {measured[0].case.seed}, n = {measured[0].rounds} rounds; "
            f"{host}, load {min(loads):.1f} to {max(loads):.1f}; began {started}; {versions}; "
            f"commit {commit}."
        )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, whose first columns are text and the others numbers."""
    marks = ["---"] * len(_CASE) + ["---:"] * (len(heads) - len(_CASE))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def _picture(name: str) -> str:
    return f"![{CAPTIONS[name]}]({name}.png)\n\n{CAPTIONS[name]}"
