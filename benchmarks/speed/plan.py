"""Which cases a command measures, and which of them are possible: settled before any of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from antiparallel.benchmarks.files import first_fault
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.limits import PEERS, require_possible
from antiparallel.benchmarks.speed.measure import contenders_of
from antiparallel.benchmarks.speed.record import path_of
from antiparallel.benchmarks.stepper import engine_of
from antiparallel.spec import SpecError, as_rule


@dataclass(frozen=True)
class Job:
    """A case on a backend.

    Args:
        case: What is measured.
        backend: A key of ``BUILDERS``.
        contenders: See ``contenders_of``.
        peers: The other libraries among them.
        out: The folder of its record.
    """

    case: Case
    backend: str
    contenders: Mapping[str, str]
    peers: Sequence[str]
    out: Path

    @property
    def engine(self) -> str | None:
        """The engine of the backend, if it has a choice."""
        return engine_of(self.backend)

    @property
    def path(self) -> Path:
        """Where its record will be."""
        return path_of(self.out, self.case, self.backend, self.engine)


def plan_cases(
    models: Sequence[str],
    batches: Sequence[int],
    widths: Sequence[int],
    depths: Sequence[int],
    common: Mapping[str, Any],
) -> list[Case]:
    """Return every combination of networks and batches, and of a ``convnet``'s sizes.

    Args:
        models: Networks.
        batches: Pictures in a step.
        widths: Channels of a ``convnet``'s layers; none for the usual.
        depths: Numbers of a ``convnet``'s layers; none for the usual.
        common: The other fields of every case.

    Raises:
        SpecError: A value is not allowed, or sizes are given without a ``convnet``.
    """
    if (widths or depths) and "convnet" not in models:
        raise SpecError(
            "Expected --width and --depth with --model convnet only. "
            f"Received: --model {', '.join(models)}"
        )
    usual = Case()
    sizes = [
        {"width": width, "depth": depth}
        for width, depth in product(widths or [usual.width], depths or [usual.depth])
    ]
    return [
        _case({**common, "model": model, "batch": batch, **size})
        for model, batch in product(models, batches)
        for size in (sizes if model == "convnet" else [{}])
    ]


def plan(
    cases: Iterable[Case],
    backends: Iterable[str],
    rules: Sequence[str],
    peers: Sequence[str],
    out: Path,
    *,
    overwrite: bool = False,
) -> list[Job]:
    """Return what is measured, backend by backend.

    Args:
        cases: The cases.
        backends: Keys of ``BUILDERS``.
        rules: Names of rules.
        peers: Other libraries, whose layers are measured under each rule.
        out: The folder of the records.
        overwrite: Whether records may be there already.

    Raises:
        SpecError: Something is not possible, or a record is there already. Nothing is written.
    """
    names = [as_rule(rule).name for rule in rules]
    if not names or len(set(names)) < len(names):
        raise SpecError(f"Expected rules that differ. Received: rules={list(rules)}")
    _require_peers(peers)
    contenders = contenders_of(names, peers)
    jobs = [Job(case, backend, contenders, peers, out) for backend in backends for case in cases]
    for job in jobs:
        require_possible(job.case, job.backend, names, peers)
        if job.path.exists() and not overwrite:
            raise SpecError(
                f"Expected a case that was not measured yet, or --overwrite. "
                f"Received: {str(job.path)!r}"
            )
    if len({job.path for job in jobs}) < len(jobs):
        raise SpecError("Expected cases and backends that differ. Received: the same twice")
    return jobs


def _case(fields: Mapping[str, Any]) -> Case:
    try:
        return Case.model_validate(fields)
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        raise SpecError(
            f"Expected a case that can be measured ({first_fault(error)}). "
            f"Received: {name}={fields[str(name)]!r}"
        ) from error


def _require_peers(peers: Sequence[str]) -> None:
    for peer in peers:
        if peer not in PEERS:
            raise SpecError(f"Expected one of the peers {', '.join(PEERS)}. Received: {peer!r}")
        if find_spec(peer) is None:
            raise SpecError(
                f"Expected {peer} to be installed: pip install 'antiparallel[peer]'. "
                f"Received: --peer {peer}"
            )
