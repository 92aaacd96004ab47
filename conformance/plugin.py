"""The suite as pytest tests: one per check, in ``pytest --pyargs antiparallel.conformance``."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from antiparallel.conformance.backends import get_backend
from antiparallel.conformance.records import Record
from antiparallel.conformance.registry import Check, all_checks
from antiparallel.conformance.report import as_json, header
from antiparallel.conformance.runner import (
    PROFILES,
    Profile,
    require_expected_failures,
    run_check,
    settle,
)
from antiparallel.spec import SpecError

_FOLDER = Path(__file__).parent
_RECORD = "antiparallel.conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("antiparallel.conformance")
    group.addoption("--backend", help="registered name of the backend, or module:attribute")
    group.addoption(
        "--profile", choices=list(PROFILES), default="default", help="how many examples"
    )
    group.addoption(
        "--expected-failures",
        type=Path,
        metavar="FILE",
        help='TOML file of lines check_name = "reason"; one that passes fails the run',
    )
    group.addoption(
        "--conformance-json", type=Path, metavar="PATH", help="write all records to this file"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Find the backend and read the list of expected failures, before anything runs."""
    name = config.getoption("--backend")
    if name is None:
        raise pytest.UsageError("Expected --backend NAME. Received: no backend")
    try:
        config.pluginmanager.register(_Session(config, name), "antiparallel.conformance.session")
    except SpecError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect this package as the suite.

    As the package that it is pytest would import it under the name ``conformance`` and, in its
    default import mode, put the folder that holds ``antiparallel.torch`` on sys.path, where it
    would pass for torch itself.
    """
    if path != _FOLDER:
        return None
    name = "antiparallel.conformance"
    return cast(pytest.Collector, Suite.from_parent(parent, path=path, name=name, nodeid=name))


class Suite(pytest.Directory):
    """All checks."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per check."""
        for check in all_checks().values():
            yield CheckItem.from_parent(self, name=check.name, check=check)


class CheckItem(pytest.Item):
    """One check."""

    def __init__(self, *, check: Check, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.check = check

    def runtest(self) -> None:
        """Run the check and keep its record."""
        session = _session(self.config)
        record = settle(
            run_check(self.check, session.backend_name, session.profile),
            session.expected_failures,
        )
        self.user_properties.append((_RECORD, asdict(record)))
        if record.status == "failed":
            raise _Failed(record)
        if record.status == "expected-failure":
            pytest.xfail(record.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the record's own words, not a traceback through the suite."""
        if isinstance(excinfo.value, _Failed):
            record = excinfo.value.record
            return f"{record.message}\n\nTo reproduce:\n\n{record.reproduce}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Name the check and its clause."""
        return self.path, None, f"{self.name} ({self.check.clause})"


class _Failed(Exception):  # noqa: N818 - not an error of the suite, but what it found
    def __init__(self, record: Record) -> None:
        super().__init__(record.message)
        self.record = record


class _Session:
    """What one session tests, and what it found."""

    def __init__(self, config: pytest.Config, name: str) -> None:
        self.backend_name = name
        self.backend = get_backend(name)
        self.profile: Profile = config.getoption("--profile")
        self.path: Path | None = config.getoption("--conformance-json")
        self.expected_failures = _read_expected_failures(config.getoption("--expected-failures"))
        self.records: list[Record] = []

    def pytest_report_header(self) -> list[str]:
        return header(self.backend, self.profile)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            found = [value for name, value in report.user_properties if name == _RECORD]
            self.records += [Record(**cast(dict[str, Any], value)) for value in found]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        is_worker = hasattr(session.config, "workerinput")  # of pytest-xdist
        if self.path is not None and not is_worker:
            text = json.dumps(as_json(self.backend, self.profile, self.records), indent=1)
            self.path.write_text(text + "\n", encoding="utf-8")


def _session(config: pytest.Config) -> _Session:
    return cast(_Session, config.pluginmanager.get_plugin("antiparallel.conformance.session"))


def _read_expected_failures(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        listed = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"Expected a TOML file. Received: {path}: {error}") from error
    return require_expected_failures(listed)
