"""Feedback needs no words between Keras's devices: they say what plain backprop has them say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from antiparallel.benchmarks.stepper import engine_of

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(engine_of("keras") != "jax", reason="Keras does it on JAX only"),
]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Return what is counted where a CPU shows itself as several devices."""
    driver = Path(__file__).with_name("keras_devices_driver.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("XLA_FLAGS", None)  # the driver's own doing
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", driver], env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_devices_take_the_steps_and_updates_of_one(found: dict[str, Any]):
    four, two, one = found["losses"]
    assert len(one) == 3
    assert four == pytest.approx(one, rel=1e-4)
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("network", ["normalized", "bare"])
@pytest.mark.parametrize("rule", ["ss", "fa", "ss-fixed"])
def test_a_rule_needs_the_collectives_of_plain_backprop(
    found: dict[str, Any], network: str, rule: str
):
    plain = found[network]["plain"]
    assert plain.keys() == {"all-reduce", "bytes"}
    assert found[network][rule] == plain


def test_a_network_of_kerashub_has_all_its_variables_before_its_first_step(found: dict[str, Any]):
    assert found["hub"]["ss"] == found["hub"]["plain"]
    assert found["hub"]["plain"].keys() == {"all-reduce", "bytes"}


def test_gradients_of_all_parameters_are_what_devices_say(found: dict[str, Any]):
    parameters = (27 * 4 + 4) + (36 * 4 + 4) + (4 * 10 + 10)
    assert found["bare"]["plain"]["bytes"] == pytest.approx(4 * parameters, abs=16)  # and the loss
    assert found["normalized"]["plain"]["all-reduce"] > found["bare"]["plain"]["all-reduce"]


def test_feedback_in_parts_would_be_noticed(found: dict[str, Any]):
    usual, sharded = found["normalized"]["fa"], found["sharded"]
    assert sum(sharded.values()) > sum(usual.values())
    assert sharded.keys() > usual.keys()
