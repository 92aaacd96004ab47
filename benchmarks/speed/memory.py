"""The most memory that one contender takes, measured in a process of its own.

    python -m antiparallel.benchmarks.speed.memory

reads an ``Order`` from standard input and ends its answer with a line, an ``Amount``.
"""

import os
import subprocess
import sys

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from antiparallel.benchmarks.speed.builders import find_builder
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.contender import Builder
from antiparallel.benchmarks.stepper import process_memory
from antiparallel.spec import SpecError

STEPS = 3
"""Momentum is there after the first, and whatever is kept from step to step."""

# Otherwise glibc raises the size from which on memory goes back to the system, whenever some does;
# later tensors then stay in its pools, between others that happened to come before.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072"}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Order(_Frozen):
    """What is to be measured.

    Args:
        backend: A key of ``BUILDERS``.
        case: What is built.
        rule: See ``Builder.build``.
    """

    backend: str
    case: Case
    rule: str


class Amount(_Frozen):
    """Memory in bytes: the device's, or on CPUs the process's.

    Args:
        before: The most before the network was built: what the libraries themselves take.
        peak: The most after a few steps.
    """

    before: int = Field(ge=0)
    peak: int = Field(gt=0)

    @property
    def own(self) -> int:
        """What network, optimizer and steps take."""
        return self.peak - self.before


def measure_here(builder: Builder, case: Case, rule: str) -> Amount:
    """Return the memory that a contender takes in this process, of which it must be the first.

    Args:
        builder: A backend's.
        case: What is built.
        rule: See ``Builder.build``.
    """
    before = process_memory() if case.device == "cpu" else 0
    with builder.joined(case):
        contender = builder.build(case, rule)
        for _ in range(STEPS):
            contender.step()
        return Amount(before=before, peak=contender.memory())


def measure_apart(backend: str, case: Case, rule: str) -> Amount:
    """Return the memory that a contender takes in a process of its own.

    Args:
        backend: A key of ``BUILDERS``.
        case: What is built.
        rule: See ``Builder.build``.

    Raises:
        SpecError: That process failed, as where memory does not suffice.
    """
    answer = subprocess.run(
        [sys.executable, "-m", "antiparallel.benchmarks.speed.memory"],
        input=Order(backend=backend, case=case, rule=rule).model_dump_json(),
        env=os.environ | _ALLOCATOR,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return Amount.model_validate_json(answer.stdout.rpartition("\n")[2])
    except ValidationError as error:
        last = answer.stderr.rstrip().rpartition("\n")[2]
        raise SpecError(
            "Expected a process to measure the memory that a few steps take. Received: exit code "
            f"{answer.returncode}, {last!r}, of {rule} in {backend}"
        ) from error


def main() -> None:
    """Measure what standard input asks for."""
    order = Order.model_validate_json(sys.stdin.read())
    amount = measure_here(find_builder(order.backend), order.case, order.rule)
    print("\n" + amount.model_dump_json(), end="")


if __name__ == "__main__":
    main()
