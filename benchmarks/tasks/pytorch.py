"""What networks are asked to do, on PyTorch."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiparallel.benchmarks.data import Batch
from antiparallel.benchmarks.recipes import Recipe

Outputs = Tensor | dict[str, Tensor]


class Targets(NamedTuple):
    """What a batch shows: see ``Batch``.

    Args:
        labels: The classes.
        boxes: Where the objects are; empty where pictures have one class and no boxes.
    """

    labels: Tensor
    boxes: Tensor


class Seen(NamedTuple):
    """What came of a batch.

    Args:
        loss: The mean loss of its pictures, in nats.
        sums: Sums over its pictures, one for each of the task's metrics.
    """

    loss: Tensor
    sums: list[float]


class Task(Protocol):
    """What a network is asked to do.

    Args:
        metrics: Names of what is summed over pictures; ``"loss"`` first.
        losses: Those of them that are kept of each update.
    """

    metrics: tuple[str, ...]
    losses: tuple[str, ...]

    def judge(self, outputs: Any, targets: Targets) -> Seen:
        """Return what a network's outputs come to."""
        ...

    def answers(self, outputs: Any) -> list[Any]:
        """Return a network's answer to each picture: see ``stepper.Evaluation``."""
        ...


class Classification:
    """To say which of some classes a picture shows: softmax cross-entropy."""

    metrics: tuple[str, ...] = ("loss", "error", "top5_error")
    losses: tuple[str, ...] = ("loss",)

    def judge(self, outputs: Tensor, targets: Targets) -> Seen:
        """Return the mean loss, and the sums of losses and errors; see ``Task``."""
        labels = targets.labels
        loss = F.cross_entropy(outputs, labels)
        errors = [_errors(outputs, labels, best) for best in (1, 5)]
        return Seen(loss, [loss.item() * len(labels), *errors])

    def answers(self, outputs: Tensor) -> list[int]:
        """Return the class that each picture is taken for."""
        answers: list[int] = outputs.argmax(1).tolist()
        return answers


class Detection:
    """To find objects: focal loss of their classes, absolute error of their boxes.

    Args:
        model: The detector, which knows its anchors.
        size: Height and width of the pictures.
    """

    metrics: tuple[str, ...] = ("loss", "classification", "regression")
    losses = metrics

    def __init__(self, model: nn.Module, size: int) -> None:
        self._model: Any = model
        self._size = size

    def judge(self, outputs: dict[str, Tensor], targets: Targets) -> Seen:
        """Return the mean loss, and the sums of losses and of their parts; see ``Task``."""
        found = self._model.picture_losses(self._size, outputs, *targets)
        parts = [found[name] for name in self.metrics[1:]]
        losses = torch.stack(parts).sum(0)
        return Seen(losses.mean(), [part.sum().item() for part in (losses, *parts)])

    def answers(self, outputs: dict[str, Tensor]) -> list[list[list[float]]]:
        """Return the objects found in each picture."""
        found: list[list[list[float]]] = self._model.detections(self._size, outputs)
        return found


def task_of(recipe: Recipe, model: nn.Module) -> Task:
    """Return what a recipe asks of its network."""
    if recipe.model != "retinanet":
        return Classification()
    assert recipe.size is not None
    return Detection(model, recipe.size)


def targets_of(batch: Batch, device: torch.device) -> Targets:
    """Return a batch's classes and boxes on a device."""
    boxes = torch.empty(0) if batch.boxes is None else torch.from_numpy(batch.boxes)
    return Targets(torch.from_numpy(batch.labels).to(device), boxes.to(device))


def in_float32(outputs: Outputs) -> Outputs:
    """Return outputs in the type that losses are computed in."""
    if isinstance(outputs, dict):
        return {name: output.float() for name, output in outputs.items()}
    return outputs.float()


def tensors(outputs: Outputs) -> Sequence[Tensor]:
    """Return the tensors that outputs consist of."""
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


def _errors(logits: Tensor, labels: Tensor, best: int) -> float:
    """Return of how many pictures the label is not among the best answers."""
    found = logits.topk(min(best, logits.shape[1])).indices == labels[:, None]
    return len(labels) - float(found.any(1).sum().item())
