"""The checks: plain functions, registered with the clause they check and what drives them."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from hypothesis.strategies import SearchStrategy

from antiparallel.spec import SpecError
from antiparallel.spec.contract import Capability

Drive: TypeAlias = SearchStrategy[Any] | tuple[Any, ...]
"""Where an argument comes from: drawn by hypothesis, or each of a few values in turn."""

_CHAPTERS = (
    "shapes",
    "feedback",
    "rules",
    "scale",
    "initialization",
    "draws",
    "optimizer",
    "diagnostics",
    "training",
    "errors",
    "training",
)


@runtime_checkable
class Case(Protocol):
    """An argument of a check that a backend may be unable to serve."""

    @property
    def needs(self) -> frozenset[Capability]:
        """The capabilities without which a backend must raise UnsupportedError."""
        ...


@dataclass(frozen=True)
class Check:
    """A registered check.

    Args:
        name: The function's name.
        clause: The clause of SPEC.md that it checks.
        function: ``function(backend, **arguments)``; raises Violation, or returns.
        drives: Where each argument comes from.
        may_compute: Whether an example that needs what a backend declares unsupported may pass as
            well as raise UnsupportedError: where no arithmetic of the backend's is asked for.
    """

    name: str
    clause: str
    function: Callable[..., None]
    drives: Mapping[str, Drive]
    may_compute: bool = False


_CHECKS: dict[str, Check] = {}
_Function = TypeVar("_Function", bound=Callable[..., None])


def check(
    clause: str, *, may_compute: bool = False, **drives: Drive
) -> Callable[[_Function], _Function]:
    """Register a function ``check_<what>(backend, **arguments)`` as the check of a clause.

    Args:
        clause: The clause of SPEC.md.
        may_compute: As in ``Check``.
        **drives: For each argument a hypothesis strategy, or a tuple of all its values.

    Returns:
        A decorator that returns the function as it is.
    """

    def register(function: _Function) -> _Function:
        name = function.__name__
        if name in _CHECKS:
            raise SpecError(f"Expected check names to differ. Received: name={name!r}")
        _CHECKS[name] = Check(name, clause, function, drives, may_compute)
        return function

    return register


def all_checks() -> dict[str, Check]:
    """Return every check by its name, chapter by chapter."""
    for chapter in _CHAPTERS:
        importlib.import_module(f"antiparallel.conformance.checks.{chapter}")
    return dict(_CHECKS)


def find_check(name: str) -> Check:
    """Return the check of that name.

    Raises:
        SpecError: There is none.
    """
    checks = all_checks()
    if name not in checks:
        raise SpecError(f"Expected one of the checks {', '.join(checks)}. Received: check={name!r}")
    return checks[name]
