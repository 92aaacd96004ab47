"""SIGINT and SIGTERM as a question that the loop asks before every update."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Has SIGINT or SIGTERM arrived? A second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextmanager
    def caught(self) -> Iterator[Self]:
        """Catch both signals while the block runs."""
        before = {number: signal.getsignal(number) for number in CAUGHT}
        for number in before:
            signal.signal(number, self._receive)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __call__(self) -> bool:
        """Return whether a signal arrived."""
        return self.received is not None

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for caught in CAUGHT:
            signal.signal(caught, signal.SIG_DFL)
