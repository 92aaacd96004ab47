"""What a measurement leaves behind: one JSON file with every single timing."""

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from antiparallel.benchmarks.files import read_model, write_atomically
from antiparallel.benchmarks.record import Origin, framework
from antiparallel.benchmarks.speed.case import Case, Model
from antiparallel.benchmarks.speed.contender import PLAIN
from antiparallel.benchmarks.speed.measure import CONTROL, Timings
from antiparallel.benchmarks.speed.memory import Amount


class SpeedRecord(BaseModel):
    """One case, measured on one backend.

    Args:
        version: Version of this format; a reader refuses any other.
        case: What was measured.
        backend: The backend.
        engine: The engine that Keras runs on; None for a backend without a choice.
        origin: The process that measured it.
        load: How many processes wanted to run at the beginning and the end, by the system's
            average over a minute. Where these are more than the case's own, ratios are noisy.
        rounds: Rounds that count.
        timings: Seconds of every step, and of its parts.
        memory: By contender; nothing where it was not measured.
        collectives: Collective operations of a step by their names, by contender; nothing where
            the case has no parts that could speak to each other.
        instructions: Instructions of one step, by contender; nothing where they were not counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = 2
    case: Case
    backend: str
    engine: str | None
    origin: Origin
    load: tuple[float, float]
    rounds: int = Field(ge=1)
    timings: Timings
    memory: dict[str, tuple[Amount, ...]] = {}
    collectives: dict[str, dict[str, int]] = {}
    instructions: dict[str, Annotated[int, Field(gt=0)]] = {}

    @model_validator(mode="after")
    def _require_whole(self) -> Self:
        """Raise ValueError if a contender lacks a round."""
        parts = [getattr(self.timings, part) for part in Timings.model_fields]
        names = self.timings.step.keys()
        rounds = {len(seconds) for seconds in self.timings.step.values()}
        if not {PLAIN, CONTROL} <= names or any(part.keys() != names for part in parts):
            raise ValueError("plain backprop, its control and every rule in each part of a step")
        if rounds != {self.rounds} or not all(all(part.values()) for part in parts):
            raise ValueError("a step of everyone in every round")
        return self

    @property
    def framework(self) -> str:
        """The backend with its engine, if it has a choice of them."""
        return framework(self.backend, self.engine)


def path_of(folder: Path, case: Case, backend: str, engine: str | None) -> Path:
    """Return where the record of a case is."""
    return folder / f"{framework(backend, engine)}-{case.name}.json"


def write_record(record: SpeedRecord, folder: Path) -> Path:
    """Write a record to its place in a folder, made if need be, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, record.case, record.backend, record.engine)
    write_atomically(path, (record.model_dump_json(indent=1) + "\n").encode())
    return path


def read_record(path: Path) -> SpeedRecord:
    """Return the record in a file.

    Raises:
        SpecError: It is not one of this version.
    """
    return read_model(path, SpeedRecord, "a record of speed of this version")


def read_records(folder: Path) -> list[SpeedRecord]:
    """Return all records in a folder, network by network, the smallest case first.

    Raises:
        SpecError: A JSON file is not one of this version.
    """
    return sorted((read_record(path) for path in folder.glob("*.json")), key=_place)


def _place(record: SpeedRecord) -> tuple[object, ...]:
    """Return what records are sorted by."""
    case = record.case
    sizes = (case.width, case.depth, case.batch, case.pixels)
    return get_args(Model).index(case.model), *sizes, case.name, record.framework
