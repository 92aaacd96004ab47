"""Keras on JAX spreads a run's batches over devices; the other engines refuse."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from antiparallel.benchmarks.data import Part
from antiparallel.benchmarks.processes import ALONE_HERE, Place
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import engine_of, join
from antiparallel.spec import SpecError

pytestmark = pytest.mark.engine
Tiny = Callable[..., Recipe]

jax_only = pytest.mark.skipif(engine_of("keras") != "jax", reason="Keras does it on JAX only")

TRAIN = """
import json, sys
from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.processes import ALONE_HERE
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import build_stepper, join

def learn(devices):
    with join("keras", recipe, ALONE_HERE, devices=devices) as processes:
        stepper = build_stepper("keras", recipe, 5, digits(), processes)
        batches = digits().train_batches(seed=0, epoch=0, start=0, stop=3, batch_size=200)
        trained = stepper.train(batches, 0.05, {})
        found = stepper.evaluate(digits().validation_batches(73))
        state = {name: array.tolist() for name, array in stepper.state().items()}
        return trained._asdict() | found._asdict() | {"state": state, "is": stepper.describe()}

recipe = Recipe.model_validate_json(sys.argv[1])
print(json.dumps([learn(devices) for devices in (1, 2)]))
"""


def two_devices(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code where JAX shows this machine's processors as two devices."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=os.environ | flags,
        capture_output=True,
        text=True,
    )


@jax_only
def test_two_devices_train_as_one_and_normalise_the_whole_batch(tiny: Tiny):
    answer = two_devices(TRAIN, tiny("fa").model_dump_json())
    assert answer.returncode == 0, answer.stderr
    one, two = json.loads(answer.stdout.splitlines()[-1])
    # Sums over all pixels of a batch, in another order, in each of four layers and three updates
    tolerance = 4 * 3 * 8 * 8 * 200 * float(np.finfo(np.float32).eps)
    assert two["is"]["devices"].startswith("2 ")
    assert "devices" not in one["is"]
    assert two["losses"] == pytest.approx(one["losses"], rel=tolerance)
    assert two["sums"]["error"] == pytest.approx(one["sums"]["error"], abs=1)
    assert two["metrics"] == pytest.approx(one["metrics"], rel=tolerance)
    assert two["predictions"] == one["predictions"]
    for name, array in one["state"].items():
        apart = np.linalg.norm(np.subtract(two["state"][name], array))
        assert apart <= tolerance * np.linalg.norm(array), name


@jax_only
def test_more_devices_than_there_are_and_rules_that_they_cannot_share_are_refused(tiny: Tiny):
    code = """
import sys
from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.processes import ALONE_HERE
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import build_stepper, join
from antiparallel.spec import SpecError

recipe = Recipe.model_validate_json(sys.argv[1])
for devices, backend_settings in ((3, {}), (2, {"sharded": True}), (2, {})):
    try:
        with join("keras", recipe, ALONE_HERE, devices=devices, **backend_settings) as processes:
            build_stepper("keras", recipe, 0, digits(), processes)
    except SpecError as error:
        print(error)
"""
    answer = two_devices(code, tiny(rule="ss-batch").model_dump_json())
    fewer, sharded, draws = answer.stdout.splitlines()[-3:]
    assert "Received: devices=3" in fewer
    assert "PyTorch only" in sharded
    assert "ss-batch" in draws


@pytest.mark.skipif(engine_of("keras") == "jax", reason="JAX can")
def test_other_engines_refuse_several_devices(tiny: Tiny):
    refuse("Received: KERAS_BACKEND=", tiny(), ALONE_HERE, devices=2)


@jax_only
def test_several_processes_are_refused(tiny: Tiny):
    refuse("Received: 2 processes", tiny(), Place(Part(0, 2), 0, "localhost", 1))


def refuse(message: str, recipe: Recipe, place: Place, **settings: Any) -> None:
    with pytest.raises(SpecError, match=message), join("keras", recipe, place, **settings):
        pass
