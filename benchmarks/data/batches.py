"""What the training loop and the steppers know of pictures."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from antiparallel.benchmarks.record import Shown


class Batch(NamedTuple):
    """Pictures and what they show.

    Whole numbers, so that every backend gets the same pixels; a stepper standardises them where
    it computes, by the data set's mean and deviation.

    Args:
        images: ``(batch, height, width, channels)``, uint8.
        labels: The class of each picture, ``(batch,)``, int64; or of each object in it,
            ``(batch, most)``, where -1 fills the rows of pictures that have fewer.
        boxes: Where the objects are, ``(batch, most, 4)``, float32: left, top, right, bottom in
            pixels of the image. None where pictures have one class and no boxes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32] | None = None


class Part(NamedTuple):
    """The share of every batch that one of several processes works on.

    Args:
        rank: The process's number, from 0.
        world: The number of processes.
    """

    rank: int
    world: int

    def of(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return this process's rows of a batch: neighbours, as even as they go."""
        return np.array_split(batch, self.world)[self.rank]


WHOLE = Part(0, 1)
"""One process's share, if there is no other."""


class Scored(NamedTuple):
    """What answers are worth, where it does not follow from one picture at a time.

    Args:
        metrics: Metrics over all validation pictures.
        detections: What was found in the pictures, in COCO's format of results; None where
            networks do not look for objects.
    """

    metrics: dict[str, float]
    detections: list[dict[str, Any]] | None = None


class Dataset(Protocol):
    """A data set with its fixed split."""

    @property
    def classes(self) -> int:
        """The number of classes."""
        ...

    @property
    def train_size(self) -> int:
        """The number of training pictures."""
        ...

    @property
    def validation_labels(self) -> NDArray[np.int64]:
        """The classes of the validation pictures, in their order; none where they have several."""
        ...

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of each channel, in the units of the pixels."""
        ...

    @property
    def deviation(self) -> tuple[float, ...]:
        """The standard deviation of each channel, in the units of the pixels."""
        ...

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
        """Yield an epoch's batches number ``start`` to ``stop - 1``, or this process's part."""
        ...

    def validation_batches(self, batch_size: int, part: Part = WHOLE) -> Iterator[Batch]:
        """Yield all validation pictures in their order; the last batch may be smaller."""
        ...

    def score(self, predictions: Sequence[Any]) -> Scored:
        """Return what a network's answers to the validation pictures, in their order, are worth.

        Args:
            predictions: An answer for each picture: see ``stepper.Evaluation``.
        """
        ...

    def shown(self) -> "Shown | None":
        """Return the truth about a few validation pictures; None where they have one class."""
        ...

    def describe(self) -> dict[str, str]:
        """Return what a record says of the data."""
        ...

    def close(self) -> None:
        """End whatever reads ahead."""
        ...
