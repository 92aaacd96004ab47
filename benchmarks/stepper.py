"""What the training loop asks of a backend. The loop itself knows no framework."""

import json
import os
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from antiparallel.benchmarks.data import Batch, Dataset
from antiparallel.benchmarks.processes import ALONE, Place, Processes
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.spec import SpecError
from antiparallel.spec.contract import Diagnostics

State = dict[str, NDArray[Any]]
Losses = dict[str, list[float]]


class Evaluation(NamedTuple):
    """What a network makes of pictures.

    Args:
        metrics: Means over the pictures, under the same names as in training.
        predictions: For each picture, in order, the class that it is taken for; or a row for each
            object found in it, best first: left, top, right, bottom in pixels, score, class.
    """

    metrics: dict[str, float]
    predictions: list[Any]


class Trained(NamedTuple):
    """What some updates came to.

    Args:
        sums: Sums over the pictures; see ``Stepper.train``.
        losses: The mean losses of each update's batch, before the update: ``"loss"``, in nats,
            and of detectors its parts ``"classification"`` and ``"regression"``.
    """

    sums: dict[str, float]
    losses: Losses


class Stepper(Protocol):
    """A network with its optimizer, built from a recipe and a seed."""

    def train(self, batches: Iterable[Batch], lr: float, sums: Mapping[str, float]) -> Trained:
        """Make one update per batch, up to a loss that is not finite, which is then the last.

        In the sums ``"examples"`` is how many pictures there were, ``"loss"`` the sum of their
        losses before each update; for classifiers ``"error"`` is the number misclassified,
        ``"top5_error"`` the number whose label is not among the five best answers; for detectors
        ``"classification"`` and ``"regression"`` are the parts of the loss.
        ``sums`` are those of the epoch's earlier batches, empty at first; each batch is added to
        them in turn, so that the totals do not depend on where a round ended. Where several
        processes work on a batch, each is given its part and returns the sums over all.
        """
        ...

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Look at pictures without learning."""
        ...

    def state(self) -> State:
        """Return all that the next update depends on: parameters, buffers, optimizer state."""
        ...

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what ``state`` returned."""
        ...

    def diagnostics(self) -> dict[str, Diagnostics]:
        """Return the diagnostics of each weight layer, first layer first."""
        ...

    def describe(self) -> dict[str, str]:
        """Return versions and device, for the record."""
        ...

    def memory(self) -> int:
        """Return the most memory used so far, in bytes: the device's, or on CPUs the process's."""
        ...


def combined(
    totals: Mapping[str, float], answers: list[list[Any]], processes: Processes
) -> Evaluation:
    """Put together what every process found in its part of each batch.

    Args:
        totals: Sums over this process's pictures.
        answers: What they are taken for, batch by batch: see ``Evaluation``.
        processes: The processes.
    """
    messages = processes.gather(json.dumps([totals, answers]).encode())
    found, parts = zip(*map(json.loads, messages), strict=True)
    predictions = [
        answer for batch in zip(*parts, strict=True) for part in batch for answer in part
    ]
    means = {name: sum(part[name] for part in found) / len(predictions) for name in totals}
    return Evaluation(means, predictions)


def process_memory() -> int:
    """Return the most memory that this process has had so far, in bytes."""
    try:  # since Linux lets a process inherit ru_maxrss from whoever started it
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class _Place(NamedTuple):
    module: str
    extra: str


_MODEL_LIBRARIES = {"torchvision": "torchvision", "keras_hub": "keras-hub"}

STEPPERS: dict[str, _Place] = {
    "torch": _Place("antiparallel.benchmarks.steppers.pytorch", "torch"),
    "keras": _Place("antiparallel.benchmarks.steppers.keras3", "keras"),
}
"""Where each backend's stepper is; its module is imported only when it is asked for."""


def engine_of(backend: str) -> str | None:
    """Return the engine that a backend computes on, None if it is one itself.

    Keras is not imported for it: as Keras does, this reads KERAS_BACKEND, then Keras's
    configuration file.
    """
    if backend != "keras":
        return None
    if engine := os.environ.get("KERAS_BACKEND"):
        return engine
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def installed_backends() -> list[str]:
    """Return the backends that are installed; Keras is where its engine is too."""
    return [
        backend
        for backend in STEPPERS
        if find_spec(backend) is not None and find_spec(engine_of(backend) or backend) is not None
    ]


def require_backend(backend: str) -> None:
    """Raise SpecError unless there is a stepper for this backend."""
    if backend not in STEPPERS:
        raise SpecError(
            f"Expected one of the backends {', '.join(STEPPERS)}. Received: backend={backend!r}"
        )


def build_stepper(
    backend: str, recipe: Recipe, seed: int, dataset: Dataset, processes: Processes = ALONE
) -> Stepper:
    """Build a recipe's network and optimizer in a backend, for the pictures of a data set.

    Raises:
        SpecError: There is no such backend, or it is not installed.
    """
    with requiring(backend, recipe.model):
        stepper: Stepper = _module(backend).build(recipe, seed, dataset, processes)
    return stepper


def join(
    backend: str, recipe: Recipe, place: Place, *, devices: int = 1, sharded: bool = False
) -> AbstractContextManager[Processes]:
    """Return the context in which several devices work on a run together.

    Args:
        backend: The backend.
        recipe: What is trained.
        place: Which of the run's processes this is.
        devices: Devices that are wanted on one machine; a launcher decides it itself.
        sharded: Whether parameters are spread over the devices.

    Raises:
        SpecError: There is no such backend, it is not installed, or cannot do that.
    """
    world = place.part.world
    if devices > 1 and world not in (1, devices):
        raise SpecError(
            f"Expected no --devices where a launcher started {world} processes. "
            f"Received: devices={devices}"
        )
    if max(devices, world) == 1:
        if sharded:
            raise SpecError("Expected several devices to spread parameters over. Received: one")
        return nullcontext(ALONE)
    with requiring(backend, recipe.model):
        joined: AbstractContextManager[Processes] = _module(backend).joined(
            place, recipe, devices, sharded
        )
    return joined


def _module(backend: str) -> ModuleType:
    require_backend(backend)
    return import_module(STEPPERS[backend].module)


@contextmanager
def requiring(backend: str, model: str) -> Iterator[None]:
    """Turn a library that is not there into a refusal that says how to install it.

    Args:
        backend: A key of ``STEPPERS``.
        model: The network for which it is needed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("antiparallel"):
            raise
        missing = error.name.partition(".")[0]
        extra = STEPPERS[backend].extra
        package = _MODEL_LIBRARIES.get(missing, f"'antiparallel[{extra},benchmarks]'")
        raise SpecError(
            f"Expected {missing} to be installed: pip install {package}. "
            f"Received: backend={backend!r}, model={model!r}"
        ) from error
