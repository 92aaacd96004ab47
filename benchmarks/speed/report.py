"""The report on all records in a folder: speed.md and its figures."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from antiparallel.benchmarks.files import write_atomically
from antiparallel.benchmarks.report.looks import image
from antiparallel.benchmarks.speed.figures import CAPTIONS, draw_growth, draw_speed
from antiparallel.benchmarks.speed.growth import Growth, growth_of
from antiparallel.benchmarks.speed.record import SpeedRecord, read_records
from antiparallel.benchmarks.speed.summary import in_words, milliseconds, of_memory, rows_of

_CAPTION = (
    "Median of the ratios within rounds, with its 95 % interval (order statistics, no "
    "distribution assumed). Every round runs each contender's step once, in random order, within "
    "one process. `plain` is the library's own model, never converted; the control is a second "
    "copy of it, whose ratio shows the noise. Memory: the most that a process takes in a few "
    "steps, without the libraries' own, median of processes, over plain backprop's."
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
    figures = {"speed": draw_speed(records)}
    if grown:
        figures["growth"] = draw_growth(grown)
    parts = [
        "# Step time and memory beside plain backprop's",
        _table(_HEAD, (cells for record in records for cells in _cells(record))),
        _CAPTION,
        _image("speed"),
    ]
    if told := [cells for record in records for cells in _collectives(record)]:
        parts += [
            "## Collective operations of one step",
            _table(("case", "framework", "rule", "operations"), told),
        ]
    if grown:
        parts += ["## Growth", _table(_GROWTH_HEAD, map(_growth_cells, grown)), _image("growth")]
    parts += ["## Where the numbers come from", *map(_origin, records)]
    paths = [folder / "speed.md", *(folder / f"{name}.png" for name in figures)]
    for path, figure in zip(paths[1:], figures.values(), strict=True):
        write_atomically(path, image(figure, "png"))
    write_atomically(paths[0], ("\n\n".join(parts) + "\n").encode())
    return paths


_HEAD = (
    "case",
    "framework",
    "rule",
    "step time / plain",
    "n",
    "control / plain",
    "memory / plain",
    "pictures a second",
    "forward / backward / optimizer, ms",
)
_GROWTH_HEAD = ("framework", "with", "from to", "n", "rule", "exponent of time", "of memory")


def _cells(record: SpeedRecord) -> Iterable[Sequence[str]]:
    for row in rows_of(record):
        yield (
            record.case.name,
            record.framework,
            f"`{row.name}`",
            in_words(row.ratio),
            str(row.ratio.n),
            in_words(row.control),
            of_memory(row),
            f"{row.examples:.4g}",
            milliseconds(row.split),
        )


def _collectives(record: SpeedRecord) -> Iterable[Sequence[str]]:
    for name, counts in record.collectives.items():
        told = ", ".join(f"{number} {operation}" for operation, number in sorted(counts.items()))
        yield record.case.name, record.framework, f"`{name}`", told or "none"


def _growth_cells(one: Growth) -> Sequence[str]:
    return (
        one.framework,
        one.fixed,
        f"{one.axis} {one.sizes[0]} to {one.sizes[-1]}",
        str(len(one.sizes)),
        f"`{one.name}`",
        f"{one.exponent(one.seconds):.2f}",
        f"{one.exponent(one.memory):.2f}" if one.memory else "not measured",
    )


def _origin(record: SpeedRecord) -> str:
    origin = record.origin
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    load = " and ".join(f"{load:.1f}" for load in record.load)
    return (
        f"**{record.framework}, {record.case.name}**: `{origin.command}`; seed "
        f"{record.case.seed}; {origin.host}; load {load} before and after; {origin.started}; "
        f"{versions}; commit {origin.commit or 'none'}."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _image(name: str) -> str:
    return f"![{CAPTIONS[name]}]({name}.png)\n\n{CAPTIONS[name]}"
