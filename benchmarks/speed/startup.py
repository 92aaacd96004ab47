"""What is paid once, before the first step: importing a backend, and converting a ResNet-152."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Literal, Protocol, cast

import numpy as np
from pydantic import BaseModel, ConfigDict

from antiparallel.benchmarks.files import read_model, write_atomically
from antiparallel.benchmarks.record import Origin, describe_process, framework
from antiparallel.benchmarks.speed.builders import find_builder
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.stepper import engine_of, require_backend, requiring

_MODULES = {
    "torch": "antiparallel.benchmarks.speed.pytorch_startup",
    "keras": "antiparallel.benchmarks.speed.keras3_startup",
}

IMPORT, DRAWING = "import", "drawing alone"
"""What is measured besides conversions."""

_IMPORT = """
import sys, time, importlib
importlib.import_module(sys.argv[1])
began = time.perf_counter()
importlib.import_module(sys.argv[2])
print("\\n" + str(time.perf_counter() - began), end="")
"""


class _Backend(Protocol):
    """A backend's module: ``speed.pytorch_startup`` or ``speed.keras3_startup``."""

    LIBRARY: str
    LEAF: str

    def resnet152(self) -> object: ...

    def convert(self, model: object, rule: str, seed: int) -> None: ...

    def draw_all(self, model: object, seed: int) -> int: ...


class Startup(BaseModel):
    """What is paid once on a backend.

    Args:
        version: Version of this format; a reader refuses any other.
        backend: The backend.
        engine: The engine that Keras runs on; None for a backend without a choice.
        origin: The process that measured it.
        seed: Seed of the feedback.
        numbers: Weights of the network that is converted, biases and the like left out.
        seconds: ``"import"``: of the backend, its library being there already; ``"to RULE"``: of
            the conversion; ``"drawing alone"``: of as many numbers as there are weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    backend: str
    engine: str | None
    origin: Origin
    seed: int
    numbers: int
    seconds: dict[str, tuple[float, ...]]

    @property
    def framework(self) -> str:
        """The backend with its engine, if it has a choice of them."""
        return framework(self.backend, self.engine)


def measure_startup(
    backend: str,
    rules: Sequence[str],
    *,
    times: int,
    seed: int,
    watch: Callable[[], None] = lambda: None,
) -> Startup:
    """Time everything several times, in turns.

    Args:
        backend: A key of ``BUILDERS``.
        rules: Names of rules.
        times: How often.
        seed: Seed of the feedback.
        watch: Called each time.

    Raises:
        SpecError: There is no such backend, or something is not installed.
    """
    require_backend(backend)
    with requiring(backend, "resnet152"):
        ours = cast(_Backend, import_module(_MODULES[backend]))
        described = find_builder(backend).build(_SMALLEST, "plain").describe()
        ours.convert(ours.resnet152(), "ss", seed)  # the first finds nothing in memory
    seconds: dict[str, list[float]] = {IMPORT: []}
    numbers = 0

    def drawing(model: object) -> None:
        nonlocal numbers
        numbers = ours.draw_all(model, seed)

    for _ in range(times):
        seconds[IMPORT].append(_seconds_to_import(ours.LIBRARY, ours.LEAF))
        for rule in rules:
            model = ours.resnet152()
            seconds.setdefault(f"to {rule}", []).append(
                _seconds(partial(ours.convert, model, rule, seed))
            )
        model = ours.resnet152()
        seconds.setdefault(DRAWING, []).append(_seconds(partial(drawing, model)))
        watch()
    return Startup(
        backend=backend,
        engine=engine_of(backend),
        origin=describe_process(described),
        seed=seed,
        numbers=numbers,
        seconds={name: tuple(each) for name, each in seconds.items()},
    )


def write_startup(startup: Startup, folder: Path) -> list[Path]:
    """Write what was measured into a folder, and a table of all that is there.

    Returns:
        The files: the table first.

    Raises:
        SpecError: A file in the folder is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = [read_startup(path) for path in sorted(folder.glob("*.json"))]
    path = folder / f"{startup.framework}.json"
    write_atomically(path, (startup.model_dump_json(indent=1) + "\n").encode())
    there = [one for one in others if one.framework != startup.framework]
    page = folder / "startup.md"
    write_atomically(page, _page(sorted([*there, startup], key=lambda one: one.framework)).encode())
    return [page, path]


def read_startup(path: Path) -> Startup:
    """Return what was measured.

    Raises:
        SpecError: The file holds no such thing of this version.
    """
    return read_model(path, Startup, "seconds of startup of this version")


def milliseconds(seconds: Sequence[float]) -> str:
    """Return the median and the range as text."""
    low, median, high = (1000 * number for number in np.quantile(seconds, [0, 0.5, 1]))
    return f"{median:.0f} ({low:.0f} to {high:.0f})"


_SMALLEST = Case(model="convnet", width=1, depth=1, batch=1, pixels=4)


def _seconds(act: Callable[[], None]) -> float:
    began = perf_counter()
    act()
    return perf_counter() - began


def _seconds_to_import(library: str, leaf: str) -> float:
    answer = subprocess.run(
        [sys.executable, "-c", _IMPORT, library, leaf], capture_output=True, text=True, check=True
    )
    return float(answer.stdout.rpartition("\n")[2])


def _engine_in(startup: Startup) -> str:
    return f"KERAS_BACKEND={startup.engine} " if startup.engine else ""


def _page(found: Sequence[Startup]) -> str:
    names = list(dict.fromkeys(name for one in found for name in one.seconds))
    rows = [
        ["framework", "n", *names],
        ["---", *["---:"] * (1 + len(names))],
        *(
            [
                one.framework,
                str(len(one.seconds[IMPORT])),
                *(milliseconds(one.seconds[name]) if name in one.seconds else "" for name in names),
            ]
            for one in found
        ),
    ]
    origins = [
        f"{one.framework}: `{_engine_in(one)}{one.origin.command}`; seed {one.seed}; "
        f"{one.origin.host}; began {one.origin.started}; "
        + ", ".join(f"{name} {version}" for name, version in one.origin.versions.items())
        + f"; commit {one.origin.commit or 'none'}."
        for one in found
    ]
    parts = [
        "# What is paid once",
        "\n".join(f"| {' | '.join(row)} |" for row in rows),
        "Milliseconds, median and range: importing the backend once its library is there, in a "
        "process of its own; converting a ResNet-152 of "
        f"{found[0].numbers:,} weights to a rule; drawing as many numbers and keeping none.",
        "## Where the numbers come from",
        *origins,
    ]
    return "\n\n".join(parts) + "\n"
