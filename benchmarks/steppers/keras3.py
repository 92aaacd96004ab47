"""The stepper on Keras, on whichever engine KERAS_BACKEND names."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import antiparallel.keras as ap
from antiparallel.benchmarks.data import Batch, Dataset
from antiparallel.benchmarks.models.correspondence import Correspondence
from antiparallel.benchmarks.models.keras3 import build as build_model
from antiparallel.benchmarks.models.keras3 import start
from antiparallel.benchmarks.models.retinanet import correspondence_of
from antiparallel.benchmarks.processes import ALONE, Processes
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import (
    Evaluation,
    Losses,
    State,
    Trained,
    combined,
)
from antiparallel.benchmarks.steppers.keras3_devices import (
    ENGINE,
    KerasDevices,
    computing_in,
    describe_engine,
    joined,
    on,
    predict,
    set_threads,
    used_memory,
)
from antiparallel.benchmarks.tasks.keras3 import Task, task_of
from antiparallel.keras.attachment import FeedbackState
from antiparallel.keras.inventory import named_layers
from antiparallel.spec import SpecError
from antiparallel.spec.contract import Diagnostics

__all__ = ["ENGINE", "KerasStepper", "build", "joined"]


class KerasStepper:
    """A converted Keras model and the specification's SGD.

    Args:
        model: The model, converted, initialised and compiled.
        task: What it is asked to do.
        dataset: Its pictures, for their mean and deviation.
        correspondence: The layers' names in the record, if they are not the model's.
        device: Where it is, in the words of ``keras.device``.
        threads: CPU threads that the engine uses.
        processes: This process and its devices.
    """

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        dataset: Dataset,
        correspondence: Correspondence | None,
        device: str,
        threads: str,
        *,
        processes: Processes = ALONE,
    ) -> None:
        self._model = model
        self._task = task
        self._mean = np.array(dataset.mean, np.float32)
        self._deviation = np.array(dataset.deviation, np.float32)
        self._correspondence = correspondence
        self._device = device
        self._threads = threads
        self._processes = processes

    def train(self, batches: Iterable[Batch], lr: float, sums: Mapping[str, float]) -> Trained:
        """Make one update per batch; see ``Stepper``."""
        self._model.optimizer.learning_rate = lr
        names = ("examples", *self._task.metrics)
        totals = dict.fromkeys(names, 0.0) | dict(sums)
        losses: Losses = {name: [] for name in self._task.losses}
        with keras.device(self._device):
            for batch in batches:
                self._model.reset_metrics()  # they are means over all batches since
                found = self._model.train_on_batch(
                    self._standardised(batch.images), self._task.targets(batch), return_dict=True
                )
                pictures = len(batch.images) * self._processes.part.world  # whose means Keras found
                counted = [pictures, *self._task.sums(found, pictures)]
                for name, number in zip(names, counted, strict=True):
                    totals[name] += number
                for name, kept in losses.items():
                    kept.append(float(found[name]))
                if not isfinite(losses["loss"][-1]):  # the update is made: in memory only
                    break
        return Trained(totals, losses)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Return mean losses and errors, and answers; see ``Stepper``."""
        totals = dict.fromkeys(self._task.metrics, 0.0)
        answers: list[list[Any]] = []
        with keras.device(self._device):
            for batch in batches:
                if not len(batch.images):  # another process has the rest
                    answers.append([])
                    continue
                outputs = predict(self._model, self._standardised(batch.images))
                for name, number in zip(totals, self._task.judge(outputs, batch), strict=True):
                    totals[name] += number
                answers.append(self._task.answers(outputs))
        return combined(totals, answers, self._processes)

    def state(self) -> State:
        """Return variables, feedback and momentum; see ``Stepper``."""
        state: State = {}
        for part, owner in self._parts():
            kept: dict[str, Any] = {}
            owner.save_own_variables(kept)
            for name, value in kept.items():
                array = value if isinstance(value, np.ndarray) else _array(value)
                state[f"{part}/{name}"] = np.array(array)
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what ``state`` returned; see ``Stepper``."""
        kept: dict[str, State] = {part: {} for part, _ in self._parts()}
        for name, array in state.items():
            part, _, variable = name.rpartition("/")
            kept[part][variable] = array
        for part, owner in self._parts():
            owner.load_own_variables(kept[part])

    def diagnostics(self) -> dict[str, Diagnostics]:
        """Return the diagnostics of each weight layer; see ``Stepper``."""
        found = ap.diagnostics(self._model)
        if self._correspondence is None:
            return found
        recorded = {self._correspondence.recorded_name(path): each for path, each in found.items()}
        return {name: recorded[name] for name in self._correspondence.layers}

    def describe(self) -> dict[str, str]:
        """Return versions, engine, device and threads; see ``Stepper``."""
        return {
            **describe_engine(),
            "device": self._device,
            "threads": self._threads,
            **self._processes.describe(),
        }

    def memory(self) -> int:
        """Return the most memory used so far; see ``Stepper``."""
        return used_memory(self._device)

    def _standardised(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (images.astype(np.float32) - self._mean) / self._deviation

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield whatever keeps variables, each under a name of its own."""
        seen: set[int] = set()
        for name, layer in named_layers(self._model):
            if id(layer) in seen:  # KerasHub's backbones are in their models by two names
                continue
            seen.add(id(layer))
            if not isinstance(layer, FeedbackState):
                yield f"model/{name}", layer
            if getattr(layer, "feedback_state", None) is not None:
                yield f"model/{name}.feedback", layer.feedback_state
        yield "optimizer", self._model.optimizer


def build(
    recipe: Recipe, seed: int, dataset: Dataset, processes: Processes = ALONE
) -> KerasStepper:
    """Build the recipe's model, converted and initialised by the specification.

    Raises:
        SpecError: The engine cannot use the device, or several devices cannot do what is asked.
    """
    if processes.devices > 1 and "ss-batch" in (recipe.rule, *recipe.overrides.values()):
        raise SpecError(
            "Expected another rule than ss-batch, on whose draws devices cannot agree. "
            f"Received: devices={processes.devices}"
        )
    threads = set_threads(recipe.threads)
    device = processes.device if isinstance(processes, KerasDevices) else recipe.device
    correspondence = correspondence_of(recipe.model)
    names = {} if correspondence is None else correspondence.layer_names()
    with on(device):
        with computing_in(recipe.precision):
            model = build_model(recipe, len(dataset.mean), dataset.classes)
        ap.convert(
            model,
            rule=recipe.rule,
            overrides=_renamed(recipe.overrides, names),
            scale=recipe.scale,
            seed=seed,
            error_dtype=recipe.error_dtype,
        )
        start(model, recipe, seed)
        optimizer = ap.SGD(
            learning_rate=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            batch_manhattan=recipe.batch_manhattan,
            keep_signs=recipe.keep_signs,
        )
        optimizer.build(model.trainable_variables)
        task = task_of(recipe, model)
        task.compile(model, optimizer, jit=recipe.compiled or ENGINE == "jax")  # has nothing else
    return KerasStepper(model, task, dataset, correspondence, device, threads, processes=processes)


def _renamed(overrides: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Return overrides whose patterns are on the record's names as ones on the model's."""
    renamed: dict[str, str] = {}
    for pattern, rule in overrides.items():
        found = [ours for ours, recorded in names.items() if fnmatchcase(recorded, pattern)]
        renamed |= {f"*{ours}": rule for ours in found} or {pattern: rule}
    return renamed


def _array(value: Any) -> NDArray[Any]:
    array: NDArray[Any] = keras.ops.convert_to_numpy(value)
    return array
