"""Backends that are the reference with one sin each, and the check that must catch it."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from antiparallel.spec.contract import Backend

_ROOMS = ("shapes", "feedback", "draws", "optimizer", "measurements", "training", "errors")


@dataclass(frozen=True)
class Mutant:
    """A backend with one sin.

    Args:
        path: Where it lies, as ``get_backend`` takes it.
        backend: The backend.
        check: The check that must fail.
        says: What the failure's message must contain.
    """

    path: str
    backend: Backend
    check: str
    says: str


_MUTANTS: list[Mutant] = []


def caught_by(check: str, says: str) -> Callable[[type], Any]:
    """Register a class of backends as a mutant; its name stands for the one instance."""

    def register(sinner: type) -> Backend:
        backend: Backend = sinner()
        _MUTANTS.append(Mutant(f"{sinner.__module__}:{sinner.__name__}", backend, check, says))
        return backend

    return register


def all_mutants() -> list[Mutant]:
    """Return every mutant."""
    for room in _ROOMS:
        importlib.import_module(f"mutants.{room}")
    return list(_MUTANTS)
