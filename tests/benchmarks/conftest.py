"""A light stepper, tiny recipes, and processes for the benchmarks' tests."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiparallel.benchmarks.data import Batch, digits
from antiparallel.benchmarks.loop import Training, Watch
from antiparallel.benchmarks.recipes import RECIPES, Recipe
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import (
    Evaluation,
    State,
    Trained,
    installed_backends,
    process_memory,
)
from antiparallel.benchmarks.train import never, unwatched
from antiparallel.spec.contract import Diagnostics

both_backends = pytest.mark.parametrize(
    "backend", ["torch", pytest.param("keras", marks=pytest.mark.engine)]
)

ENGINES = [
    name for name in ("tensorflow", "jax", "torch") if find_spec("keras") and find_spec(name)
]
"""Keras's engines that are installed."""

TINY = {"depth": 3, "width": 4, "epochs": 2, "batch_size": 200, "checkpoint_every": 2}


class SoftmaxRegression:
    """The stepper's requests, answered by a linear model in NumPy.

    Args:
        poison: The update, counted from 0, whose loss is not a number.
    """

    def __init__(self, poison: int | None = None) -> None:
        self.weight = np.zeros((10, 64))
        self.updates = 0
        self.poison = poison
        self.rates: list[float] = []
        self.seen: list[np.ndarray] = []

    def train(self, batches: Iterable[Batch], lr: float, sums: Mapping[str, float]) -> Trained:
        totals = {"examples": 0.0, "loss": 0.0, "error": 0.0, **sums}
        means: list[float] = []
        self.rates.append(lr)
        for batch in batches:
            inputs, probabilities, losses = self._forward(batch)
            self.seen.append(batch.labels)
            if self.updates == self.poison:
                losses = losses * np.nan
            totals["examples"] += len(losses)
            totals["loss"] += float(losses.sum())
            totals["error"] += float((probabilities.argmax(1) != batch.labels).sum())
            means.append(float(losses.mean()))
            if not isfinite(means[-1]):
                break
            error = probabilities - np.eye(10)[batch.labels]
            self.weight -= lr * error.T @ inputs / len(losses)
            self.updates += 1
        return Trained(totals, {"loss": means})

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        totals, predictions = {"loss": 0.0, "error": 0.0}, []
        for batch in batches:
            _, probabilities, losses = self._forward(batch)
            totals["loss"] += float(losses.sum())
            totals["error"] += float((probabilities.argmax(1) != batch.labels).sum())
            predictions += probabilities.argmax(1).tolist()
        means = {name: total / len(predictions) for name, total in totals.items()}
        return Evaluation(means, predictions)

    def state(self) -> State:
        return {"weight": self.weight.copy(), "updates": np.array(self.updates)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.weight = state["weight"].copy()
        self.updates = int(state["updates"])

    def diagnostics(self) -> dict[str, Diagnostics]:
        return {"fc": Diagnostics(40.0, float("nan"), float(np.abs(self.weight).mean()))}

    def describe(self) -> dict[str, str]:
        return {"device": "numpy"}

    def memory(self) -> int:
        return process_memory()

    def _forward(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels = batch.images.reshape(len(batch.labels), -1)
        inputs = (pixels - digits().mean[0]) / digits().deviation[0]
        logits = inputs @ self.weight.T
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = shifted / shifted.sum(1, keepdims=True)
        losses = -np.log(probabilities[np.arange(len(inputs)), batch.labels])
        return inputs, probabilities, losses


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    installed = "keras" in installed_backends()
    for item in items:
        if not item.get_closest_marker("engine"):
            continue
        # Keras asks TensorFlow's variables for arrays in the way that was usual before NumPy 2.
        item.add_marker(
            pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")
        )
        if not installed:
            item.add_marker(pytest.mark.skip(reason="Keras or its engine is not installed"))


@pytest.fixture
def softmax_regression() -> type[SoftmaxRegression]:
    return SoftmaxRegression


@pytest.fixture
def tiny() -> Callable[..., Recipe]:
    """Return a recipe of the digits tier, made so small that a run takes no time."""

    def make(setting: str = "ss", **changes: Any) -> Recipe:
        recipe = RECIPES[f"digits/convnet-{setting}"]
        return Recipe.model_validate(recipe.model_dump() | TINY | changes)

    return make


@pytest.fixture
def train_linear(tiny: Callable[..., Recipe]) -> Callable[..., Record]:
    """Run the loop on softmax regression in a folder, from where the folder is."""

    def train(
        path: Path,
        stop: Callable[[], bool] = never,
        watch: Watch = unwatched,
        stepper: SoftmaxRegression | None = None,
        **changes: Any,
    ) -> Record:
        folder = RunFolder(path)
        with folder.held():
            if folder.has_record():
                record = folder.read_record()
            else:
                record = Record(recipe=tiny(**changes), overrides={}, seed=7, backend="numpy")
            stepper = stepper or SoftmaxRegression()
            return Training(record, stepper, digits(), folder, stop, watch).run()

    return train


class BothLibraries:
    """What a driver computes in PyTorch once, and in Keras on an engine, when it is asked for.

    Each half has a process of its own.

    Args:
        driver: The program beside this file: ``torch FOLDER``, and after it ``keras FOLDER``, which
            leaves its arrays in the engine's folder there.
        folder: Where they leave their arrays.
    """

    def __init__(self, driver: str, folder: Path) -> None:
        self.driver = Path(__file__).with_name(driver)
        self.folder = folder
        self._run("torch")

    def on(self, engine: str) -> Callable[[str], dict[str, np.ndarray]]:
        """Run Keras's half on an engine and return what loads both halves' arrays by name."""
        own = self.folder / engine
        own.mkdir()
        self._run("keras", KERAS_BACKEND=engine, JAX_ENABLE_X64="1")

        def load(name: str) -> dict[str, np.ndarray]:
            path = (own if name.startswith("keras") else self.folder) / f"{name}.npz"
            if name.startswith("keras") and "float64" in name and not path.exists():
                assert engine != "tensorflow"
                pytest.skip("there Keras normalises batches in float32, whatever their dtype")
            with np.load(path) as arrays:
                return dict(arrays)

        return load

    def _run(self, library: str, **engine: str) -> None:
        # Threads that wait without spinning, lest tests beside these take ten times as long
        threads = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
        answer = subprocess.run(
            [sys.executable, self.driver, library, self.folder],
            env=os.environ | threads | engine,
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stderr


def as_options(settings: Mapping[str, object]) -> list[str]:
    """Return a recipe's fields as the command takes them."""
    return [part for field, value in settings.items() for part in ("--set", f"{field}={value}")]


def timeless(value: Any) -> Any:
    """Return a record's dump without what the clock, not the run, decides."""
    if isinstance(value, dict):
        dropped = ("seconds", "ended", "sessions", "memory")
        return {key: timeless(item) for key, item in value.items() if key not in dropped}
    if isinstance(value, list | tuple):
        return [timeless(item) for item in value]
    return value


@pytest.fixture
def result() -> Callable[[Path], tuple[str, bytes]]:
    """Return all of a run that must not depend on how often it was interrupted."""

    def read(path: Path) -> tuple[str, bytes]:
        record = RunFolder(path).read_record()
        newest = sorted((path / "checkpoints").glob("update-*"))[-1]
        kept = timeless(record.model_dump()), RunFolder(path).read_losses()
        return repr(kept), (newest / "state.safetensors").read_bytes()

    return read


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the ``antiparallel`` command in an empty folder, as a process of its own.

    ``after`` is Python that runs before it, in the same process.
    """

    def start(*arguments: str, after: str = "pass") -> subprocess.Popen[str]:
        # Whoever runs these tests in the background may have Ctrl-C ignored, and that is inherited.
        hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        program = f"{hear}; {after}; from antiparallel.benchmarks.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group of its own, as a terminal gives it
        )

    return start
