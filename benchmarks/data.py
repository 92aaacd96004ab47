"""The pictures, in an order that is a pure function of (seed, epoch).

Batches are NumPy arrays, so that every backend sees the same pixels in the same order.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

_SPLIT_SEED = 2019
_ORDER_PURPOSE = 16  # apart from the specification's purposes, which are below 16

VALIDATION_PER_CLASS = 40
"""Validation pictures of each digit: 400 in all. The other 1,397 are for training."""


class Batch(NamedTuple):
    """Pictures and what they show.

    Args:
        images: ``(batch, channels, height, width)``, float32, standardised.
        labels: ``(batch,)``, int64.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


class Dataset(NamedTuple):
    """A data set with its fixed split.

    Args:
        train: Training pictures.
        validation: Validation pictures.
        classes: Number of classes.
    """

    train: Batch
    validation: Batch
    classes: int

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of whole batches in an epoch."""
        return len(self.train.labels) // batch_size

    def train_batches(
        self, *, seed: int, epoch: int, start: int, stop: int, batch_size: int
    ) -> Iterator[Batch]:
        """Yield an epoch's batches number ``start`` to ``stop - 1``."""
        permutation = order(len(self.train.labels), seed=seed, epoch=epoch)
        for step in range(start, stop):
            chosen = permutation[step * batch_size : (step + 1) * batch_size]
            yield Batch(self.train.images[chosen], self.train.labels[chosen])

    def validation_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all validation pictures in their order; the last batch may be smaller."""
        images, labels = self.validation
        for start in range(0, len(labels), batch_size):
            yield Batch(images[start : start + batch_size], labels[start : start + batch_size])


def order(size: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch shows the training pictures.

    The order sorts one raw 64-bit Philox word per picture, so that it depends neither on what
    was drawn before nor on the NumPy release.
    """
    generator = np.random.Philox(
        key=np.array([seed, epoch], dtype=np.uint64),
        counter=np.array([0, 0, _ORDER_PURPOSE, 0], dtype=np.uint64),
    )
    return np.argsort(generator.random_raw(size), kind="stable")


@cache
def digits() -> Dataset:
    """Return the 1,797 handwritten 8x8 digits that scikit-learn contains.

    The split is stratified and the same for every seed: of each digit, the
    ``VALIDATION_PER_CLASS`` pictures that come first in a fixed random order are for validation.
    Pixels are standardised by the mean and deviation of the training pictures.

    References:
        E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI.
    """
    source = load_digits()
    labels = source.target.astype(np.int64)
    shuffled = order(len(labels), seed=_SPLIT_SEED, epoch=0)
    held_out = np.concatenate(
        [shuffled[labels[shuffled] == digit][:VALIDATION_PER_CLASS] for digit in range(10)]
    )
    training = np.setdiff1d(np.arange(len(labels)), held_out)
    mean, deviation = source.images[training].mean(), source.images[training].std()
    images = ((source.images - mean) / deviation).astype(np.float32)[:, None]
    return Dataset(
        train=Batch(images[training], labels[training]),
        validation=Batch(images[held_out], labels[held_out]),
        classes=10,
    )


DATASETS = {"digits": digits}
"""What loads each tier's pictures."""
