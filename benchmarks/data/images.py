"""A data set of pictures on disk."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.data.batches import WHOLE, Batch, Part, Scored
from antiparallel.benchmarks.data.layouts import find_splits
from antiparallel.benchmarks.data.order import order
from antiparallel.benchmarks.data.splits import (
    Splits,
    Watch,
    unwatched,
    without_bad_pictures,
)
from antiparallel.benchmarks.data.transforms import DEVIATION, MEAN, Pixels, Preprocessing
from antiparallel.benchmarks.data.workers import Workers

_PIECE = 32  # pictures that a worker makes ready in one go, at most
_PIECE_BYTES = 5 * 2**20  # of them, if that is more than one: there is room for many pieces


class _Material(NamedTuple):
    """What every worker has: the pictures, and what becomes of them."""

    splits: Splits
    preprocessing: Preprocessing


class _Shown(NamedTuple):
    """An epoch of the training pictures."""

    seed: int
    epoch: int


class Images:
    """Pictures on disk, decoded by workers; see ``Dataset``.

    Args:
        splits: Where the pictures are.
        preprocessing: How they become arrays of one size.
        workers: Processes that decode; 0 for none but this one.
    """

    mean = MEAN
    deviation = DEVIATION

    def __init__(self, splits: Splits, preprocessing: Preprocessing, workers: int) -> None:
        self._splits = splits
        self._shape = (preprocessing.size, preprocessing.size, 3)
        picture = math.prod(self._shape)
        self._piece = max(1, min(_PIECE, _PIECE_BYTES // picture))
        self._workers = Workers(workers, _Material(splits, preprocessing), self._piece * picture)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self._splits.classes)

    @property
    def train_size(self) -> int:
        """The number of training pictures."""
        return len(self._splits.train.names)

    @property
    def validation_labels(self) -> NDArray[np.int64]:
        """The classes of the validation pictures, in their order."""
        return self._splits.validation.labels

    def train_batches(
        self,
        *,
        seed: int,
        epoch: int,
        start: int,
        stop: int,
        batch_size: int,
        part: Part = WHOLE,
    ) -> Iterator[Batch]:
        """Yield an epoch's batches number ``start`` to ``stop - 1``."""
        permutation = order(self.train_size, seed=seed, epoch=epoch)
        chosen = (
            part.of(permutation[step * batch_size : (step + 1) * batch_size])
            for step in range(start, stop)
        )
        work = partial(_training_pictures, shown=_Shown(seed, epoch))
        return self._batches(work, chosen, self._splits.train.labels)

    def validation_batches(self, batch_size: int, part: Part = WHOLE) -> Iterator[Batch]:
        """Yield all validation pictures in their order; the last batch may be smaller."""
        labels = self._splits.validation.labels
        indices = np.arange(len(labels))
        chosen = (
            part.of(indices[start : start + batch_size])
            for start in range(0, len(indices), batch_size)
        )
        return self._batches(_validation_pictures, chosen, labels)

    def score(self, predictions: Sequence[Any]) -> Scored:
        """Return nothing: what answers are worth follows from one picture at a time."""
        return Scored({})

    def shown(self) -> None:
        """Return nothing: pictures have one class."""

    def describe(self) -> dict[str, str]:
        """Return what a record says of the data: contents, not the place."""
        skipped = self._splits.skipped
        named = self._splits.classes[:20]
        return {
            "classes": f"{self.classes}: {', '.join(named)}"
            + (", ..." if self.classes > len(named) else ""),
            "train": f"{self.train_size} pictures",
            "validation": f"{len(self._splits.validation.names)} pictures",
            "fingerprint": self._splits.fingerprint(),
            **({"cache": self._splits.cache} if self._splits.cache else {}),
            **({"skipped": "; ".join(skipped)} if skipped else {}),
        }

    def close(self) -> None:
        """End the workers."""
        self._workers.close()

    def _batches(
        self,
        work: Callable[[_Material, NDArray[np.int64]], Pixels],
        chosen: Iterator[NDArray[np.int64]],
        labels: NDArray[np.int64],
    ) -> Iterator[Batch]:
        """Yield batches, each of which all workers share."""
        kept: deque[tuple[NDArray[np.int64], int]] = deque()

        def tasks() -> Iterator[NDArray[np.int64]]:
            for indices in chosen:
                pieces = -(-len(indices) // self._piece)
                parts = max(min(self._workers.count, len(indices)), pieces, 1)
                kept.append((indices, parts))
                yield from np.array_split(indices, parts)

        found = self._workers.arrays(work, tasks())
        for first in found:
            indices, parts = kept.popleft()
            images = np.empty((len(indices), *self._shape), np.uint8)
            done = len(first)
            images[:done] = first
            for piece in islice(found, parts - 1):
                images[done : done + len(piece)] = piece
                done += len(piece)
            yield Batch(images, labels[indices])


def open_images(
    root: Path,
    preprocessing: Preprocessing,
    *,
    workers: int = 0,
    skip_bad_images: int = 0,
    watch: Watch = unwatched,
) -> Images:
    """Open a data set of pictures on disk, after a check of every file.

    Args:
        root: Its folder; see ``find_splits``.
        preprocessing: How pictures become arrays of one size.
        workers: Processes that decode them; 0 for none but this one.
        skip_bad_images: How many unreadable pictures are left out; more are an error.
        watch: Told of the check's progress.

    Raises:
        SpecError: The folder is not such a data set, or has too many unreadable pictures.
    """
    splits = without_bad_pictures(find_splits(root), skip_bad_images, watch)
    return Images(splits, preprocessing, workers)


def _training_pictures(material: _Material, indices: NDArray[np.int64], shown: _Shown) -> Pixels:
    split, preprocessing = material.splits.train, material.preprocessing
    found = [
        preprocessing.training(
            split.picture(index), seed=shown.seed, epoch=shown.epoch, index=index
        )
        for index in indices.tolist()
    ]
    return _stacked(found, preprocessing)


def _validation_pictures(material: _Material, indices: NDArray[np.int64]) -> Pixels:
    split, preprocessing = material.splits.validation, material.preprocessing
    found = [preprocessing.validation(split.picture(index)) for index in indices.tolist()]
    return _stacked(found, preprocessing)


def _stacked(pictures: list[Pixels], preprocessing: Preprocessing) -> Pixels:
    size = preprocessing.size
    return np.stack(pictures) if pictures else np.empty((0, size, size, 3), np.uint8)
