"""Two runs side by side: what differs after each epoch, in the weights, and in the answers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from antiparallel.benchmarks.files import write_atomically
from antiparallel.benchmarks.models.resnet18 import RESNET18
from antiparallel.benchmarks.models.retinanet import RETINANET
from antiparallel.benchmarks.recipes import COMPARED, Recipe
from antiparallel.benchmarks.record import Epoch, Record
from antiparallel.benchmarks.report.words import without_nan
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import State
from antiparallel.spec import SpecError

_MECHANICS = ("checkpoint_every", "device", "precision", "compiled", "threads")
_CORRESPONDENCES = {"resnet18": RESNET18, "retinanet": RETINANET}
"""Names of the networks that libraries have."""
_PARTS: tuple[Literal["train", "validation"], ...] = ("train", "validation")


@dataclass(frozen=True)
class EpochDifference:
    """The second run's metrics minus the first's, after an epoch that both completed.

    Args:
        epoch: Its number, from 0.
        train: Losses in nats; errors as fractions.
        validation: The same over the validation pictures; average precision as a fraction.
    """

    epoch: int
    train: dict[str, float]
    validation: dict[str, float]


@dataclass(frozen=True)
class Losses:
    """The losses of the updates that both runs made in completed epochs, update by update.

    Args:
        updates: How many both have.
        parted: The first update, from 0, whose losses differ at all; None if none does.
        parted_by_percent: The first whose losses differ by more than 1 % of the first run's.
        largest: The largest difference over the first run's loss.
    """

    updates: int
    parted: int | None
    parted_by_percent: int | None
    largest: float


@dataclass(frozen=True)
class TensorDistance:
    """How far apart a layer's weights, or its stored feedback, are.

    Args:
        name: Layer and ``weight`` or ``feedback``, as records name layers.
        relative: `|A - B| / |A|` with the Frobenius norm, A the first run's; nan where A is 0.
        same_signs: Fraction of the entries whose signs agree. Under ``ss``, whose feedback is
            `lambda * sign(W)` and not stored, it says how far apart the feedback is.
    """

    name: str
    relative: float
    same_signs: float


@dataclass(frozen=True)
class Answers:
    """How far two networks answer alike on the same validation pictures.

    Args:
        pictures: How many there are.
        different: On how many the answers differ.
        first_only: How many only the first gets right; None where a record has no labels.
        second_only: How many only the second gets right.
        p: McNemar's test, exact and two-sided: how probable so uneven a split of these is if both
            networks are equally good.
    """

    pictures: int
    different: int
    first_only: int | None = None
    second_only: int | None = None
    p: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Everything that ``antiparallel compare`` shows.

    Args:
        first: The first run.
        second: The second.
        recipe: Fields in which the recipes differ, with both values.
        epochs: What differs after each epoch that both completed.
        losses: What differs update by update, by the losses' names in records; none if a run kept
            none.
        updates: The updates after which the checkpoints compared were made; None without any.
        tensors: Weights and stored feedback of the same name and shape in both.
        alone: Names of those that only one of the runs has.
        answers: None unless both end with answers to equally many pictures.
    """

    first: Record
    second: Record
    recipe: dict[str, tuple[Any, Any]]
    epochs: list[EpochDifference]
    losses: dict[str, Losses]
    updates: tuple[int, int] | None
    tensors: list[TensorDistance]
    alone: list[str]
    answers: Answers | None

    @property
    def parted(self) -> int | None:
        """The first epoch in which any metric differs at all, from 0; None if none does."""
        parts = (e for e in self.epochs if any((*e.train.values(), *e.validation.values())))
        return next((epoch.epoch for epoch in parts), None)


def compare_runs(first: Path, second: Path, *, anything: bool = False) -> Comparison:
    """Compare two runs, of any backends.

    Args:
        first: A run's folder.
        second: Another one's.
        anything: Whether runs of different experiments may be compared too.

    Raises:
        SpecError: A folder is no run, its checkpoints are damaged, or the runs differ in more than
            seed, backend and what an experiment compares.
    """
    folders = RunFolder(first), RunFolder(second)
    one, other = (folder.read_record() for folder in folders)
    recipe = _differing(one.recipe, other.recipe)
    if not anything:
        _require_same_experiment(one, other, recipe)
    ours, theirs = (folder.load() for folder in folders)
    tensors: list[TensorDistance] = []
    alone: list[str] = []
    updates = None
    if ours is not None and theirs is not None:
        updates = ours.position.updates, theirs.position.updates
        weights = _weights(ours.state, one), _weights(theirs.state, other)
        tensors, alone = _distances(*weights, _layers(one))
    epochs = [_difference(a, b) for a, b in zip(one.epochs, other.epochs, strict=False)]
    losses = _losses(*(folder.read_losses() for folder in folders))
    answers = _answers(one, other)
    return Comparison(one, other, recipe, epochs, losses, updates, tensors, alone, answers)


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write a comparison's numbers to ``comparison.json`` in a folder, and return its path."""
    numbers = {
        "runs": [
            {
                "name": run.name,
                "status": run.status,
                "recipe": run.recipe.model_dump(),
                "data": run.data,
                "sessions": [session.model_dump() for session in run.sessions],
            }
            for run in (comparison.first, comparison.second)
        ],
        "recipe": comparison.recipe,
        "epochs": [asdict(epoch) for epoch in comparison.epochs],
        "parted": comparison.parted,
        "losses": {name: asdict(losses) for name, losses in comparison.losses.items()},
        "updates": comparison.updates,
        "tensors": [asdict(tensor) for tensor in comparison.tensors],
        "alone": comparison.alone,
        "answers": comparison.answers and asdict(comparison.answers),
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / "comparison.json"
    write_atomically(path, (json.dumps(without_nan(numbers), indent=1) + "\n").encode())
    return path


def _differing(one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    ours, theirs = one.model_dump(), other.model_dump()
    return {field: (ours[field], theirs[field]) for field in ours if ours[field] != theirs[field]}


def _require_same_experiment(
    one: Record, other: Record, recipe: Mapping[str, tuple[Any, Any]]
) -> None:
    free = (*COMPARED, *_MECHANICS)
    fields = [f"{f}: {a!r} and {b!r}" for f, (a, b) in recipe.items() if f not in free]
    if one.data != other.data:
        fields.append(f"data: {one.data} and {other.data}")
    if fields:
        raise SpecError(
            f"Expected runs that differ in seed, backend, {', '.join(free)} only, or --any. "
            f"Received: {', '.join(fields)}"
        )


def _layers(record: Record) -> Iterable[str]:
    return record.epochs[-1].diagnostics if record.epochs else ()


def _difference(one: Epoch, other: Epoch) -> EpochDifference:
    parts = [
        {
            metric: theirs[metric] - ours[metric]
            for metric in ours
            if metric in theirs and not (isnan(ours[metric]) and isnan(theirs[metric]))
        }
        for ours, theirs in ((getattr(one, part), getattr(other, part)) for part in _PARTS)
    ]
    return EpochDifference(one.epoch, *parts)


def _losses(
    one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]
) -> dict[str, Losses]:
    """Return what differs in each kind of loss that both runs kept, the total first."""
    names = sorted(one.keys() & other.keys(), key=lambda name: (name != "loss", name))
    updates = {name: min(len(one[name]), len(other[name])) for name in names}
    return {
        name: _apart(*(np.array(run[name][: updates[name]]) for run in (one, other)))
        for name in names
        if updates[name]
    }


def _apart(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Losses:
    apart = np.abs(theirs - ours)
    with np.errstate(divide="ignore"):  # a loss may be 0
        relative = np.divide(apart, ours, out=np.zeros(len(ours)), where=apart > 0)
    parted, by_percent = (
        next(iter(np.flatnonzero(relative > limit).tolist()), None) for limit in (0, 0.01)
    )
    return Losses(len(ours), parted, by_percent, float(relative.max()))


def _distances(
    ours: State, theirs: State, layers: Iterable[str]
) -> tuple[list[TensorDistance], list[str]]:
    """Return distances of what both have, first layer first, and names of what one has."""
    place = {layer: index for index, layer in enumerate(layers)}
    names = sorted(
        ours.keys() | theirs.keys(), key=lambda n: (place.get(n.rpartition(".")[0], len(place)), n)
    )
    both = [n for n in names if n in ours and n in theirs and ours[n].shape == theirs[n].shape]
    alone = [name for name in names if name not in both]
    return [_distance(name, ours[name], theirs[name]) for name in both], alone


def _weights(state: State, record: Record) -> State:
    """Return weights and stored feedback as torch names them and lays them out: (out, in, ...)."""
    names = _CORRESPONDENCES.get(record.recipe.model, RESNET18)
    torch_names = names.layer_names()
    found: State = {}
    for name, tensor in state.items():
        part, _, torch_name = name.partition(".")
        if tensor.ndim > 1 and part == "model":
            found[torch_name] = tensor
        elif tensor.ndim > 1 and name.startswith("model/"):
            owner = name.removeprefix("model/").rpartition("/")[0]
            path = owner.removesuffix(".feedback")
            kind = "weight" if path == owner else "feedback"
            layer = torch_names.get(names.keras_name(path) or "", path.rpartition("/")[2])
            found[f"{layer}.{kind}"] = np.moveaxis(tensor, (-1, -2), (0, 1))
    return found


def _distance(name: str, one: NDArray[Any], other: NDArray[Any]) -> TensorDistance:
    a, b = one.astype(np.float64), other.astype(np.float64)
    norm = float(np.linalg.norm(a))
    relative = float(np.linalg.norm(a - b)) / norm if norm else nan
    return TensorDistance(name, relative, float((np.sign(a) == np.sign(b)).mean()))


def _answers(one: Record, other: Record) -> Answers | None:
    ours, theirs = np.array(one.predictions), np.array(other.predictions)
    if not len(ours) or len(ours) != len(theirs) or one.data != other.data:
        return None
    different = int((ours != theirs).sum())
    labels = np.array(one.labels)
    if len(labels) != len(ours):
        return Answers(len(ours), different)
    first_only = int(((ours == labels) & (theirs != labels)).sum())
    second_only = int(((ours != labels) & (theirs == labels)).sum())
    uneven = first_only + second_only
    p = float(binomtest(first_only, uneven).pvalue) if uneven else 1.0
    return Answers(len(ours), different, first_only, second_only, p)
