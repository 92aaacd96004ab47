"""What takes the steps that are measured. What measures them knows no framework."""

from contextlib import AbstractContextManager
from typing import Protocol

from antiparallel.benchmarks.speed.case import Case

PLAIN = "plain"
"""The library's own model, never converted: what every rule is compared with."""


class Contender(Protocol):
    """A network under one rule, with its optimizer and one batch of random pictures.

    Every call returns when its work is done, on the device too. The first calls may compile.
    """

    def forward(self) -> None:
        """Compute the loss, as in training."""
        ...

    def gradients(self) -> None:
        """Compute the loss and all gradients."""
        ...

    def step(self) -> None:
        """Compute the loss and all gradients, and update the weights."""
        ...

    def update(self) -> None:
        """Update the weights by the gradients that there are, as the end of a step does."""
        ...

    def describe(self) -> dict[str, str]:
        """Return versions, device and threads, for the record."""
        ...

    def memory(self) -> int:
        """Return the most memory used so far, in bytes: the device's, or on CPUs the process's."""
        ...


class Builder(Protocol):
    """A backend's module: ``speed.pytorch`` or ``speed.keras3``."""

    def joined(self, case: Case) -> AbstractContextManager[None]:
        """Return the context in which the parts of a case, if it has any, work together.

        Args:
            case: What is measured, one that ``require_possible`` lets pass.

        Raises:
            SpecError: There are too few devices, or processes.
        """
        ...

    def build(self, case: Case, rule: str) -> Contender:
        """Build a network, ready to take its first step.

        Args:
            case: What it is, one that ``require_possible`` lets pass.
            rule: ``"plain"``, a rule's name, or ``"PEER:RULE"`` for another library's layers.

        Raises:
            SpecError: There is no such rule or device, or something is not installed.
        """
        ...

    def collectives(self, case: Case, rule: str) -> dict[str, int]:
        """Return how many collective operations one step takes, by their names."""
        ...
