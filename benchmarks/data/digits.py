"""The handwritten digits inside scikit-learn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.data.batches import WHOLE, Batch, Part, Scored
from antiparallel.benchmarks.data.order import order

_SPLIT_SEED = 2019

VALIDATION_PER_CLASS = 40
"""Validation pictures of each digit: 400 in all. The other 1,397 are for training."""


@dataclass(frozen=True)
class Pictures:
    """A small data set in memory; see ``Dataset``.

    Args:
        train: Training pictures.
        validation: Validation pictures.
        classes: Number of classes.
        mean: Mean of each channel of the training pictures.
        deviation: Standard deviation of each channel of the training pictures.
    """

    train: Batch
    validation: Batch
    classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def train_size(self) -> int:
        """The number of training pictures."""
        return len(self.train.labels)

    @property
    def validation_labels(self) -> NDArray[np.int64]:
        """The classes of the validation pictures, in their order."""
        return self.validation.labels

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
        for step in range(start, stop):
            chosen = part.of(permutation[step * batch_size : (step + 1) * batch_size])
            yield Batch(self.train.images[chosen], self.train.labels[chosen])

    def validation_batches(self, batch_size: int, part: Part = WHOLE) -> Iterator[Batch]:
        """Yield all validation pictures in their order; the last batch may be smaller."""
        images, labels = self.validation.images, self.validation.labels
        for start in range(0, len(labels), batch_size):
            chosen = slice(start, start + batch_size)
            yield Batch(part.of(images[chosen]), part.of(labels[chosen]))

    def score(self, predictions: Sequence[Any]) -> Scored:
        """Return nothing: what answers are worth follows from one picture at a time."""
        return Scored({})

    def shown(self) -> None:
        """Return nothing: pictures have one class."""

    def describe(self) -> dict[str, str]:
        """Return what a record says of the data."""
        held_out = len(self.validation.labels)
        return {"train": f"{self.train_size} pictures", "validation": f"{held_out} pictures"}

    def close(self) -> None:
        """Nothing reads ahead."""


@cache
def digits() -> Pictures:
    """Return the 1,797 handwritten 8x8 digits that scikit-learn contains.

    The split is stratified and the same for every seed: of each digit, the
    ``VALIDATION_PER_CLASS`` pictures that come first in a fixed random order are for validation.

    References:
        E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI.
    """
    from sklearn.datasets import load_digits  # slow, and workers import this module too

    source = load_digits()
    labels = source.target.astype(np.int64)
    shuffled = order(len(labels), seed=_SPLIT_SEED, epoch=0)
    held_out = np.concatenate(
        [shuffled[labels[shuffled] == digit][:VALIDATION_PER_CLASS] for digit in range(10)]
    )
    training = np.setdiff1d(np.arange(len(labels)), held_out)
    images = source.images.astype(np.uint8)[..., None]
    return Pictures(
        train=Batch(images[training], labels[training]),
        validation=Batch(images[held_out], labels[held_out]),
        classes=10,
        mean=(float(images[training].mean()),),
        deviation=(float(images[training].std()),),
    )
