"""Measure a case: memory first, which may not suffice; then time."""

import os
from collections.abc import Callable

from antiparallel.benchmarks.record import describe_process
from antiparallel.benchmarks.speed.builders import find_builder
from antiparallel.benchmarks.speed.measure import CONTROL, WARM_UP, measure
from antiparallel.benchmarks.speed.memory import Amount, measure_apart
from antiparallel.benchmarks.speed.plan import PROCESSES, TOGETHER, Job
from antiparallel.benchmarks.speed.record import SpeedRecord

REPETITIONS = 3
"""Processes that measure a contender's memory."""

Watch = Callable[[str, int, int], None]
"""Told what is measured, how many of it are done, and how many there are."""


def has_memory(job: Job) -> bool:
    """Return whether memory can be measured: only of a case that takes a single process."""
    return job.case.way not in PROCESSES


def run_job(job: Job, *, rounds: int, memory: bool, watch: Watch) -> SpeedRecord:
    """Measure a case.

    Args:
        job: The case.
        rounds: Rounds that count.
        memory: Whether to measure memory too, where that can be done.
        watch: Told of the progress.

    Raises:
        SpecError: The backend cannot do that.
    """
    case = job.case
    builder = find_builder(job.backend, case.model)
    amounts = _amounts(job, watch) if memory and has_memory(job) else {}
    load = os.getloadavg()[0]
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        watch("rounds", done, rounds + WARM_UP)

    with builder.joined(case):
        contenders = {name: builder.build(case, rule) for name, rule in job.contenders.items()}
        timings = measure(contenders, rounds=rounds, seed=case.seed, watch=count)
        load_after = os.getloadavg()[0]
        described = {
            key: value
            for contender in contenders.values()
            for key, value in contender.describe().items()
        }
        del contenders
        collectives = (
            {
                name: builder.collectives(case, rule)
                for name, rule in job.contenders.items()
                if name != CONTROL
            }
            if case.way in TOGETHER
            else {}
        )
    return SpeedRecord(
        case=case,
        backend=job.backend,
        engine=job.engine,
        origin=describe_process(described),
        load=(load, load_after),
        rounds=rounds,
        timings=timings,
        memory=amounts,
        collectives=collectives,
    )


def _amounts(job: Job, watch: Watch) -> dict[str, tuple[Amount, ...]]:
    """Measure every contender's memory several times, in turns."""
    found: dict[str, list[Amount]] = {name: [] for name in job.contenders}
    total = REPETITIONS * len(found)
    for repetition in range(REPETITIONS):
        for number, (name, rule) in enumerate(job.contenders.items(), 1):
            found[name].append(measure_apart(job.backend, job.case, rule))
            watch("memory", repetition * len(found) + number, total)
    return {name: tuple(amounts) for name, amounts in found.items()}
