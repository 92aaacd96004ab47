"""Instructions are counted of the steps alone, under valgrind."""

import shutil
from typing import Any

import pytest

from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.instructions import count_instructions
from antiparallel.spec import SpecError


def case(**changes: Any) -> Case:
    settings = {"model": "convnet", "batch": 4, "pixels": 8, "depth": 3, "width": 8, "threads": 1}
    return Case.model_validate(settings | changes)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_steps_count_alike_and_the_start_does_not():
    one, three = (count_instructions(case(), "plain", steps) for steps in (1, 3))
    assert one > 1e6
    # Python's own share varies a little from step to step.
    assert three == pytest.approx(3 * one, rel=0.1)


@pytest.mark.parametrize(
    "changes", [{"threads": 2}, {"compiled": True}, {"device": "cuda"}, {"way": "ddp", "parts": 2}]
)
def test_what_cannot_be_counted_is_refused(changes: dict[str, Any]):
    with pytest.raises(SpecError, match="one thread on a CPU"):
        count_instructions(case(**changes), "plain", 1)


def test_no_steps_are_refused():
    with pytest.raises(SpecError, match="steps=0"):
        count_instructions(case(), "plain", 0)


def test_without_valgrind_it_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpecError, match="valgrind to be installed"):
        count_instructions(case(), "plain", 1)
