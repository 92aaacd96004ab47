"""Measure a case: time first, for which all is built that a backend may refuse; then memory."""

import os
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import count, groupby

from antiparallel.benchmarks.record import describe_process
from antiparallel.benchmarks.speed.builders import find_builder
from antiparallel.benchmarks.speed.case import PROCESSES, TOGETHER
from antiparallel.benchmarks.speed.contender import Builder
from antiparallel.benchmarks.speed.instructions import count_instructions
from antiparallel.benchmarks.speed.measure import CONTROL, WARM_UP, measure
from antiparallel.benchmarks.speed.memory import Amount, measure_apart
from antiparallel.benchmarks.speed.plan import Job
from antiparallel.benchmarks.speed.record import SpeedRecord
from antiparallel.benchmarks.stepper import requiring

REPETITIONS = 3
"""Processes that measure a contender's memory."""

Watch = Callable[[str, int, int], None]
"""Told what is measured, how many of it are done, and how many there are."""


def has_memory(job: Job) -> bool:
    """Return whether memory can be measured: only of a case that takes a single process."""
    return job.case.way not in PROCESSES


def run_jobs(
    jobs: Sequence[Job],
    *,
    rounds: int,
    memory: bool,
    instructions: bool = False,
    watch: Callable[[Job], Watch],
) -> Iterator[SpeedRecord]:
    """Measure cases, one after another.

    Args:
        jobs: The cases, backend by backend, whose parts work together in one way.
        rounds: Rounds that count.
        memory: Whether to measure memory too, where that can be done.
        instructions: Whether to count the instructions of a step too.
        watch: Returns what is told of a case's progress.

    Raises:
        SpecError: The backend cannot do that, or is not installed.
    """
    for backend, of_backend in groupby(jobs, key=lambda job: job.backend):
        cases = list(of_backend)
        with requiring(backend, cases[0].case.model):
            builder = find_builder(backend)
            # Once for all: a launcher's processes meet a second time only by accident.
            with builder.joined(cases[0].case):
                for job in cases:
                    record = _run(job, builder, rounds, memory, watch(job))
                    if instructions:
                        counted = _instructions(job, watch(job))
                        record = record.model_copy(update={"instructions": counted})
                    yield record


def _run(job: Job, builder: Builder, rounds: int, memory: bool, watch: Watch) -> SpeedRecord:
    contenders = {name: builder.build(job.case, rule) for name, rule in job.contenders.items()}
    origin = describe_process(
        dict(ChainMap(*(contender.describe() for contender in contenders.values())))
        | {peer: version(peer) for peer in job.peers}
    )
    load = os.getloadavg()[0]
    done = count(1)
    timings = measure(
        contenders,
        rounds=rounds,
        seed=job.case.seed,
        watch=lambda: watch("rounds", next(done), rounds + WARM_UP),
    )
    load_after = os.getloadavg()[0]
    del contenders  # which may share a device with those whose memory is measured now
    return SpeedRecord(
        case=job.case,
        backend=job.backend,
        engine=job.engine,
        origin=origin,
        load=(load, load_after),
        rounds=rounds,
        timings=timings,
        memory=_amounts(job, watch) if memory and has_memory(job) else {},
        collectives=_collectives(job, builder),
    )


def _collectives(job: Job, builder: Builder) -> dict[str, dict[str, int]]:
    if job.case.way not in TOGETHER:
        return {}
    return {
        name: builder.collectives(job.case, rule)
        for name, rule in job.contenders.items()
        if name != CONTROL
    }


def _instructions(job: Job, watch: Watch) -> dict[str, int]:
    found = {}
    for number, (name, rule) in enumerate(job.contenders.items(), 1):
        found[name] = count_instructions(job.case, rule)
        watch("instructions", number, len(job.contenders))
    return found


def _amounts(job: Job, watch: Watch) -> dict[str, tuple[Amount, ...]]:
    """Measure every contender's memory several times, in turns."""
    found: dict[str, list[Amount]] = {name: [] for name in job.contenders}
    total = REPETITIONS * len(found)
    for repetition in range(REPETITIONS):
        for number, (name, rule) in enumerate(job.contenders.items(), 1):
            found[name].append(measure_apart(job.backend, job.case, rule))
            watch("memory", repetition * len(found) + number, total)
    return {name: tuple(amounts) for name, amounts in found.items()}
