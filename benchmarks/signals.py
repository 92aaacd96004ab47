"""SIGINT and SIGTERM as a question that the loop asks before every update."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Self

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Has SIGINT or SIGTERM arrived? A second one ends the process at once.

    Args:
        ignore: Signals that count for nothing. A worker ignores SIGINT: a terminal sends it to
            the parent too, and the parent tells its workers by SIGTERM.
    """

    def __init__(self, ignore: tuple[signal.Signals, ...] = ()) -> None:
        self.received: int | None = None
        self._ignore = ignore

    @contextmanager
    def caught(self) -> Iterator[Self]:
        """Catch both signals while the block runs."""
        before = {number: signal.getsignal(number) for number in CAUGHT}
        for number in CAUGHT:
            ignored = number in self._ignore
            signal.signal(number, signal.SIG_IGN if ignored else self._receive)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __call__(self) -> bool:
        """Return whether a signal arrived."""
        return self.received is not None

    def exit(self) -> None:
        """End the process if a signal arrived, with the shell's exit code for it."""
        if self.received is not None:
            raise SystemExit(128 + self.received)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for caught in set(CAUGHT).difference(self._ignore):
            signal.signal(caught, signal.SIG_DFL)


@contextmanager
def blocked() -> Iterator[None]:
    """Block both signals; processes that start meanwhile begin with them blocked."""
    resource_tracker.ensure_running()  # now, since starting it unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
