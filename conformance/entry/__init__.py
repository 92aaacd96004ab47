"""What pytest loads in every session: nothing more, unless the session asks for the suite.

``pytest --pyargs antiparallel.conformance --backend NAME`` needs ``--backend`` before pytest reads
any conftest.py of an argument of ``--pyargs``, so an entry point in the group ``pytest11`` must add
it. This is a top-level package of its own for two reasons. It imports nothing, so that other
people's test sessions neither pay for NumPy and hypothesis nor break where the extra
``conformance`` is not installed. And pytest rewrites the asserts of the packages that a
distribution with such an entry point installs; a namespace package hides from it that ours are
called ``antiparallel.torch``, not ``torch``, unless it finds a package at the top.
"""

import pytest


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Load the suite's plugin if an argument names the suite."""
    if "antiparallel.conformance" in args:
        early_config.pluginmanager.import_plugin("antiparallel.conformance.plugin")
