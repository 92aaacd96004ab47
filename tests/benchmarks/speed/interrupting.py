"""A torch builder whose second case interrupts its own process, in the middle of a round.

``import interrupting`` puts it in the place of the real one.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from antiparallel.benchmarks.speed.builders import BUILDERS
from antiparallel.benchmarks.speed.case import Case

BUILDERS["torch"] = __name__


class Interrupting:
    """A contender that does nothing, for twenty steps."""

    def __init__(self, batch: int) -> None:
        self.left = 20 if batch == 2 else None

    def forward(self) -> None:
        pass

    def gradients(self) -> None:
        pass

    def update(self) -> None:
        pass

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGINT)

    def describe(self) -> dict[str, str]:
        return {}


@contextmanager
def joined(case: Case) -> Iterator[None]:
    yield


def build(case: Case, rule: str) -> Interrupting:
    return Interrupting(case.batch)
