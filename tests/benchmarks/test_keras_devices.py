"""Keras on JAX spreads a run's batches over devices; the other engines refuse."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_devices_driver import BATCH, SIZE, UPDATES

from antiparallel.benchmarks.data import Part, digits
from antiparallel.benchmarks.processes import ALONE_HERE, Place
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import engine_of, join
from antiparallel.spec import SpecError

pytestmark = pytest.mark.engine
Tiny = Callable[..., Recipe]
Result = Callable[[Path], tuple[str, bytes]]

jax_only = pytest.mark.skipif(engine_of("keras") != "jax", reason="Keras does it on JAX only")

DRIVER = Path(__file__).with_name("keras_devices_driver.py")

# Sums over all pixels of a batch, in another order, in each of four layers and of the updates
TOLERANCE = 4 * UPDATES * 8 * 8 * SIZE["batch_size"] * float(np.finfo(np.float32).eps)


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start Python with one thread, and no warnings of what Keras imports."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def two_devices(*arguments: str) -> str:
    """Return what Python says where JAX shows this machine's processors as two devices."""
    flags = "--xla_force_host_platform_device_count=2"
    process = started(*arguments, XLA_FLAGS=flags)
    output, complaint = process.communicate()
    assert process.returncode == 0, complaint
    return output


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on one device, on two and in two processes, and return the folder of what they find."""
    folder = tmp_path_factory.mktemp("found")
    arguments = [str(DRIVER), str(folder)]
    two_devices(*arguments)
    with socket.socket() as launcher:  # torchrun listens on the port that it gives
        launcher.bind(("localhost", 0))
        launcher.listen()
        meet = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(launcher.getsockname()[1])}
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
        processes = [started(*arguments, **meet, **rank, WORLD_SIZE="2") for rank in ranks]
        for process in processes:
            _, complaint = process.communicate()
            assert process.returncode == 0, complaint
    return folder


def told(found: Path, who: str) -> dict[str, Any]:
    return json.loads((found / f"{who}.json").read_text())


def state(found: Path, who: str) -> dict[str, np.ndarray]:
    with np.load(found / f"{who}.npz") as arrays:
        return dict(arrays)


@jax_only
@pytest.mark.parametrize("who", ["2 devices", "process 0", "process 1"])
def test_devices_train_as_one_and_normalise_the_whole_batch(found: Path, who: str):
    ours, alone = told(found, who), told(found, "1 devices")
    assert ours["losses"].keys() == alone["losses"].keys() == {"loss"}
    assert ours["losses"]["loss"] == pytest.approx(alone["losses"]["loss"], rel=TOLERANCE)
    assert ours["sums"]["examples"] == alone["sums"]["examples"] == UPDATES * SIZE["batch_size"]
    assert ours["sums"]["error"] == pytest.approx(alone["sums"]["error"], abs=1)
    assert ours["angles"] == pytest.approx(alone["angles"], rel=TOLERANCE)
    one, two = state(found, "1 devices"), state(found, who)
    assert one.keys() == two.keys()
    for name, array in one.items():
        apart = np.linalg.norm(two[name] - array.astype(np.float64))
        assert apart <= TOLERANCE * np.linalg.norm(array), name


@jax_only
@pytest.mark.parametrize("who", ["2 devices", "process 0", "process 1"])
def test_every_validation_picture_counts_once_in_its_place(found: Path, who: str):
    assert len(digits().validation.labels) % BATCH == 1  # a last batch for one device of the two
    ours, alone = told(found, who), told(found, "1 devices")
    assert len(set(alone["predictions"])) > 3
    assert ours["predictions"] == alone["predictions"]
    assert ours["metrics"] == pytest.approx(alone["metrics"], rel=TOLERANCE)


@jax_only
def test_two_processes_hold_the_same_bits(found: Path):
    ours, theirs = (state(found, f"process {rank}") for rank in range(2))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    assert told(found, "process 0")["losses"] == told(found, "process 1")["losses"]


@jax_only
def test_a_signal_to_one_process_stops_both_and_they_resume_bit_for_bit(
    found: Path, result: Result
):
    record = RunFolder(found / "parts").read_record()
    assert [session.from_update for session in record.sessions] == [0, 3]
    assert result(found / "parts") == result(found / "whole")


@jax_only
def test_the_record_says_how_the_work_was_shared(found: Path):
    assert "devices" not in told(found, "1 devices")["is"]
    assert told(found, "2 devices")["is"]["devices"].startswith("2 ")
    assert told(found, "process 0")["is"]["processes"].startswith("2 ")


@jax_only
def test_more_devices_than_there_are_and_rules_that_they_cannot_share_are_refused(tiny: Tiny):
    code = """
import sys
from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.processes import ALONE_HERE
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.run_folder import RunFolder
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
    answer = two_devices("-c", code, tiny(rule="ss-batch").model_dump_json())
    fewer, sharded, draws = answer.splitlines()[-3:]
    assert "Received: devices=3" in fewer
    assert "PyTorch only" in sharded
    assert "ss-batch" in draws


@pytest.mark.skipif(engine_of("keras") == "jax", reason="JAX can")
@pytest.mark.parametrize(
    ("place", "devices"), [(ALONE_HERE, 2), (Place(Part(0, 2), 0, "localhost", 1), 1)]
)
def test_other_engines_refuse_several_devices_and_processes(tiny: Tiny, place: Place, devices: int):
    message = "Received: KERAS_BACKEND="
    refused = join("keras", tiny(), place, devices=devices)
    with pytest.raises(SpecError, match=message), refused:
        pass
