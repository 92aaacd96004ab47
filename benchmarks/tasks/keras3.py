"""What networks are asked to do, on Keras."""

from collections.abc import Mapping
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.data import Batch
from antiparallel.benchmarks.recipes import Recipe

Outputs = NDArray[Any] | dict[str, NDArray[Any]]


class Task(Protocol):
    """What a network is asked to do.

    Args:
        metrics: Names of what is summed over pictures; ``"loss"`` first.
        losses: Those of them that are kept of each update.
    """

    metrics: tuple[str, ...]
    losses: tuple[str, ...]

    def compile(self, model: keras.Model, optimizer: keras.Optimizer, jit: bool) -> None:
        """Give a model its loss and metrics."""
        ...

    def targets(self, batch: Batch) -> Any:
        """Return what a batch shows, as the model's loss takes it."""
        ...

    def sums(self, found: Mapping[str, Any], pictures: int) -> list[float]:
        """Return the sums over a batch's pictures of which Keras found the means."""
        ...

    def judge(self, outputs: Any, batch: Batch) -> list[float]:
        """Return the sums over a batch's pictures, from a model's outputs."""
        ...

    def answers(self, outputs: Any) -> list[Any]:
        """Return a network's answer to each picture: see ``stepper.Evaluation``."""
        ...


class Classification:
    """To say which of some classes a picture shows: softmax cross-entropy."""

    metrics: tuple[str, ...] = ("loss", "error", "top5_error")
    losses: tuple[str, ...] = ("loss",)

    def compile(self, model: keras.Model, optimizer: keras.Optimizer, jit: bool) -> None:
        """Give a model its loss and metrics; see ``Task``."""
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[
                keras.metrics.SparseCategoricalAccuracy(name="1 - error"),
                keras.metrics.MeanMetricWrapper(_in_top5, "1 - top5_error"),
            ],
            jit_compile=jit,
        )

    def targets(self, batch: Batch) -> NDArray[np.int64]:
        """Return the pictures' classes."""
        return batch.labels

    def sums(self, found: Mapping[str, Any], pictures: int) -> list[float]:
        """Return the sums of losses and errors; see ``Task``."""
        errors = [1 - float(found[f"1 - {name}"]) for name in self.metrics[1:]]
        return [float(found["loss"]) * pictures, *(round(error * pictures) for error in errors)]

    def judge(self, outputs: NDArray[Any], batch: Batch) -> list[float]:
        """Return the sums of losses and errors; see ``Task``."""
        labels = batch.labels
        best = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
        return [
            _cross_entropy(outputs, labels),
            float((outputs.argmax(1) != labels).sum()),
            float((best != labels[:, None]).all(1).sum()),
        ]

    def answers(self, outputs: NDArray[Any]) -> list[int]:
        """Return the class that each picture is taken for."""
        answers: list[int] = outputs.argmax(1).tolist()
        return answers


class Detection:
    """To find objects: focal loss of their classes, absolute error of their boxes.

    Args:
        model: The detector, which knows its anchors and its losses.
    """

    metrics: tuple[str, ...] = ("loss", "classification", "regression")
    losses = metrics

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def compile(self, model: keras.Model, optimizer: keras.Optimizer, jit: bool) -> None:
        """Give a model its optimizer; its losses are its own."""
        model.compile(optimizer=optimizer, jit_compile=jit)

    def targets(self, batch: Batch) -> dict[str, Any]:
        """Return the classes and boxes of the pictures' objects."""
        return {"labels": batch.labels, "boxes": batch.boxes}

    def sums(self, found: Mapping[str, Any], pictures: int) -> list[float]:
        """Return the sums of losses and of their parts; see ``Task``."""
        return [float(found[name]) * pictures for name in self.metrics]

    def judge(self, outputs: dict[str, NDArray[Any]], batch: Batch) -> list[float]:
        """Return the sums of losses and of their parts; see ``Task``."""
        found = self._model.picture_losses(batch.images, outputs, batch.labels, batch.boxes)
        parts = [float(keras.ops.sum(found[name])) for name in self.metrics[1:]]
        return [sum(parts), *parts]

    def answers(self, outputs: dict[str, NDArray[Any]]) -> list[list[list[float]]]:
        """Return the objects found in each picture."""
        found: list[list[list[float]]] = self._model.detections(outputs)
        return found


def task_of(recipe: Recipe, model: keras.Model) -> Task:
    """Return what a recipe asks of its network."""
    return Detection(model) if recipe.model == "retinanet" else Classification()


def _in_top5(labels: Any, logits: Any) -> Any:
    """Return 1 for each picture whose label is among the five best answers, else 0."""
    wide = keras.ops.cast(logits, "float32")  # TensorFlow compares nothing else
    return keras.metrics.sparse_top_k_categorical_accuracy(labels, wide, min(5, logits.shape[1]))


def _cross_entropy(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Return the sum of the pictures' losses."""
    wide = logits.astype(np.float64)
    top = wide.max(1)
    logs = top + np.log(np.exp(wide - top[:, None]).sum(1))
    return float((logs - wide[np.arange(len(labels)), labels]).sum())
