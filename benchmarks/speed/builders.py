"""Where each backend's builder is."""

from importlib import import_module
from typing import cast

from antiparallel.benchmarks.speed.contender import Builder
from antiparallel.benchmarks.stepper import require_backend

BUILDERS = {
    "torch": "antiparallel.benchmarks.speed.pytorch",
    "keras": "antiparallel.benchmarks.speed.keras3",
}
"""A module is imported only when it is asked for."""


def find_builder(backend: str) -> Builder:
    """Return a backend's builder.

    Args:
        backend: A key of ``BUILDERS``.

    Raises:
        SpecError: There is no such backend.
    """
    require_backend(backend)
    return cast(Builder, import_module(BUILDERS[backend]))
