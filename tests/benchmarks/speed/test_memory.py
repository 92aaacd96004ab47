"""Memory is that of one contender, in a process of its own."""

import subprocess
import sys

import pytest

from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.memory import STEPS, Amount, measure_apart, measure_here
from antiparallel.benchmarks.stepper import process_memory
from antiparallel.spec import SpecError

TINY = Case(model="convnet", width=4, depth=2, batch=4, pixels=8, threads=1)


def test_a_process_does_not_inherit_the_peak_of_whoever_started_it():
    ballast = bytes(500 * 2**20).replace(b"\0", b"\1")
    program = "from antiparallel.benchmarks.stepper import process_memory; print(process_memory())"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert 2**20 < int(answer.stdout) < len(ballast) < process_memory()


def test_a_contender_takes_a_few_steps_before_it_is_asked(counter_builder):
    found = measure_here(counter_builder, TINY, "ss")
    assert counter_builder.clock.log == [("ss", "step")] * STEPS
    assert found.peak == 3 * 10**9
    assert 2**20 < found.before <= process_memory()
    assert found.own == found.peak - found.before


def test_a_device_has_nothing_on_it_before_a_network_is_built(counter_builder):
    assert measure_here(counter_builder, TINY.model_copy(update={"device": "cuda"}), "ss") == (
        Amount(before=0, peak=3 * 10**9)
    )


def test_another_process_measures_what_a_larger_network_takes_more():
    pytest.importorskip("torch")
    large = TINY.model_copy(update={"batch": 64, "pixels": 64, "width": 32})
    small, big = (measure_apart("torch", case, "ss") for case in (TINY, large))
    # The input and the output of a convolution are kept for its backward pass, in float32.
    assert big.own - small.own > 2 * 64 * 32 * 64 * 64 * 4


def test_a_process_that_fails_is_told_by_its_last_words():
    pytest.importorskip("torch")
    with pytest.raises(SpecError, match=r"exit code 1, .*rule='none'.*, of none in torch"):
        measure_apart("torch", TINY, "none")
