"""What the suite's README shows works."""

import re
from importlib.resources import files

from antiparallel.conformance import PROFILES, strategies
from antiparallel.conformance.cases import LayerCase
from antiparallel.conformance.expectations import expect_equal
from antiparallel.conformance.registry import Check
from antiparallel.conformance.runner import run_check
from antiparallel.spec.contract import Backend

README = files("antiparallel.conformance").joinpath("README.md").read_text(encoding="utf-8")
RUN, CHECK = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_of_a_run_runs(capsys):
    exec(RUN.replace("\n   ", "\n").strip(), {})
    assert "('check_momentum', 'O3', 'passed')" in capsys.readouterr().out


def test_the_example_of_a_check_passes_on_the_reference():
    found = []

    def check(clause, **drives):
        return lambda function: found.append(Check(function.__name__, clause, function, drives))

    exec(
        CHECK,
        {
            "check": check,
            "strategies": strategies,
            "Backend": Backend,
            "LayerCase": LayerCase,
            "expect_equal": expect_equal,
        },
    )
    record = run_check(found[0], "reference", "quick")
    assert (record.status, record.clause, record.examples) == ("passed", "R1", 10)


def test_the_numbers_of_examples_are_those_of_the_profiles():
    assert list(PROFILES.items()) == [("quick", 10), ("default", 200), ("thorough", 1000)]
    assert "| 10, 200 or 1000 examples per check" in README
