"""Running checks: drive one with examples, settle what it found, collect records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from time import perf_counter
from typing import Any, Literal, TypeAlias

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from antiparallel.conformance.backends import get_backend, require_backend
from antiparallel.conformance.clauses import first_sentence
from antiparallel.conformance.records import Record, Status, Violation
from antiparallel.conformance.registry import Case, Check, all_checks, find_check
from antiparallel.conformance.source import as_source, lines_to_paste
from antiparallel.spec import SpecError, UnsupportedError
from antiparallel.spec.contract import Backend

Profile: TypeAlias = Literal["quick", "default", "thorough"]
Progress: TypeAlias = Callable[[Record, int, int], None]

PROFILES: dict[Profile, int] = {"quick": 10, "default": 200, "thorough": 1000}
"""Examples of each check, by profile: while writing a backend, in CI, at night."""

_FEWEST = 5  # examples of each combination, where a check runs through values of an argument


def check_backend(
    backend: str | Backend,
    *,
    profile: Profile = "default",
    only: Sequence[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> list[Record]:
    """Run the suite on a backend.

    Examples are the same in every run: they follow from the check's name.

    Args:
        backend: A name that ``get_backend`` knows, or a backend.
        profile: How many examples each check gets.
        only: Names of the checks to run; where there are none, all run, never no check.
        expected_failures: The reason why a check fails, by the check's name. Strict: a check
            listed here that passes has failed.
        progress: Called after each check with its record, the number of records so far, and
            the number of checks.

    Returns:
        One record for each check.

    Raises:
        SpecError: There is no such backend, profile or check.
    """
    expected = require_expected_failures(expected_failures or {})
    checks = [find_check(name) for name in only or all_checks()]
    records: list[Record] = []
    for check in checks:
        record = settle(run_check(check, backend, profile), expected)
        records.append(record)
        if progress is not None:
            progress(record, len(records), len(checks))
    return records


def require_expected_failures(listed: Mapping[str, Any]) -> dict[str, str]:
    """Return a list of expected failures, the reason by the check's name, if it is one.

    Raises:
        SpecError: A name is no check's, or a reason is not in words.
    """
    for name, reason in listed.items():
        find_check(name)
        if not (isinstance(reason, str) and reason.strip()):
            raise SpecError(f"Expected a reason in words for {name}. Received: {reason!r}")
    return dict(listed)


def replay(name: str, backend: Backend, **arguments: Any) -> None:
    """Run one example of a check.

    Args:
        name: The check's name.
        backend: The backend.
        **arguments: The check's arguments.

    Raises:
        Violation: The backend does something else than the specification says.
        SpecError: There is no such check.
    """
    _run_example(find_check(name), require_backend(backend), arguments)


def run_check(check: Check, backend: str | Backend, profile: Profile = "default") -> Record:
    """Drive one check with examples until one fails or all have passed.

    Raises:
        SpecError: There is no such backend or profile.
    """
    if profile not in PROFILES:
        raise SpecError(f"Expected a profile of {list(PROFILES)}. Received: profile={profile!r}")
    name = backend if isinstance(backend, str) else None
    run = _Run(check, get_backend(backend) if isinstance(backend, str) else backend)
    require_backend(run.backend)
    start = perf_counter()
    status: Status
    message = reproduce = ""
    try:
        run.all_examples(PROFILES[profile])
    except Exception as error:  # whatever a backend raises is a finding
        status = "failed"
        message = f"{_sentence(error, run)}\n{check.clause}: {first_sentence(check.clause)}"
        reproduce = lines_to_paste(check.name, name, run.arguments)
    else:
        status = "unsupported" if run.examples == run.refused else "passed"
    seconds = perf_counter() - start
    return Record(check.name, check.clause, status, message, reproduce, run.examples, seconds)


def settle(record: Record, expected_failures: Mapping[str, str]) -> Record:
    """Return the record as the list of expected failures makes it."""
    reason = expected_failures.get(record.check)
    if reason is None:
        return record
    if record.status == "failed":
        message = f"Expected: {reason}\n{record.message}"
        return replace(record, status="expected-failure", message=message)
    message = (
        f"Observed that it {record.status}, but should be a failure as listed ({reason}): "
        "take it off the list of expected failures."
    )
    return replace(record, status="failed", message=message)


@dataclass
class _Run:
    """One check at work: what it has run so far."""

    check: Check
    backend: Backend
    examples: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.arguments: dict[str, Any] = {}

    def all_examples(self, count: int) -> None:
        drives = self.check.drives
        values = {name: drive for name, drive in drives.items() if isinstance(drive, tuple)}
        drawn = {name: drive for name, drive in drives.items() if isinstance(drive, SearchStrategy)}
        combinations = list(product(*values.values()))
        count = max(count // len(combinations), _FEWEST)
        for combination in combinations:
            fixed = dict(zip(values, combination, strict=True))
            if drawn:
                self._draw_examples(drawn, fixed, count)
            else:
                self._example(fixed)

    def _draw_examples(
        self, drawn: dict[str, SearchStrategy[Any]], fixed: dict[str, Any], count: int
    ) -> None:
        def example(arguments: dict[str, Any]) -> None:
            self._example(fixed | arguments)

        example.__name__ = self.check.name  # hypothesis derives its seed from the name
        arranged = settings(
            max_examples=count,
            derandomize=True,
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow],
        )
        arranged(given(arguments=st.fixed_dictionaries(drawn))(example))()

    def _example(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self.examples += 1
        self.refused += _run_example(self.check, self.backend, arguments)


def _run_example(check: Check, backend: Backend, arguments: Mapping[str, Any]) -> bool:
    """Run one example; return whether it needs what the backend declares unsupported."""
    needs = {n for value in arguments.values() if isinstance(value, Case) for n in value.needs}
    declared = sorted(needs & set(backend.unsupported))
    call = _call(check, arguments)
    try:
        check.function(backend, **arguments)
    except UnsupportedError as error:
        if declared:
            return True
        expected = f"a result, for it declares none of {sorted(needs)} unsupported"
        raise Violation(f"UnsupportedError: {error}", expected, call) from error
    except Violation as violation:
        if not declared:
            raise
        raise _not_refused(declared, violation.call) from violation
    if declared and not check.may_compute:
        raise _not_refused(declared, call)
    return bool(declared)


def _not_refused(declared: Sequence[str], call: str) -> Violation:
    names = ", ".join(declared)
    return Violation("a result", f"UnsupportedError, for it declares {names} unsupported", call)


def _call(check: Check, arguments: Mapping[str, Any]) -> str:
    passed = "".join(f", {name}={as_source(value)}" for name, value in arguments.items())
    return f"{check.name}(backend{passed})"


def _sentence(error: Exception, run: _Run) -> str:
    if isinstance(error, Violation):
        return str(error)
    call = _call(run.check, run.arguments)
    if isinstance(error, Flaky):
        return str(Violation("now one result, now another", "the same every time", call))
    return str(Violation(f"{type(error).__name__}: {error}", "a result", call))
