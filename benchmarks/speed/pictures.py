"""The batch that every step of a case sees: random pictures, the same in every framework."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.data import Part
from antiparallel.benchmarks.speed.case import Case

_CLASSES = {"convnet": 10, "retinanet": 80}
_OBJECTS = 8  # in each of a detector's pictures


class Pictures(NamedTuple):
    """Random pictures, and what they show.

    Args:
        images: Standardised pixels, ``(batch, pixels, pixels, 3)``.
        labels: The class of each, ``(batch,)``; of a detector's objects, ``(batch, 8)``.
        boxes: Where the objects are, ``(batch, 8, 4)``: left, top, right, bottom in pixels; empty
            where pictures have one class and no boxes.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]

    def of(self, part: Part) -> "Pictures":
        """Return what a part of a batch has of it."""
        return Pictures(part.of(self.images), part.of(self.labels), part.of(self.boxes))


def classes_of(case: Case) -> int:
    """Return how many classes a case's network tells apart: the digits, COCO's or ImageNet's."""
    return _CLASSES.get(case.model, 1000)


def random_pictures(case: Case) -> Pictures:
    """Return a case's batch, drawn by its seed."""
    numbers = np.random.default_rng(case.seed)
    shape = (case.batch, case.pixels, case.pixels, 3)
    images = numbers.standard_normal(shape, np.float32)
    if case.model != "retinanet":
        labels = numbers.integers(classes_of(case), size=case.batch)
        return Pictures(images, labels, np.empty(0, np.float32))
    labels = numbers.integers(classes_of(case), size=(case.batch, _OBJECTS))
    corners = numbers.uniform(0, case.pixels, (case.batch, _OBJECTS, 2, 2))
    boxes = np.concatenate([corners.min(2), corners.max(2)], 2).astype(np.float32)
    return Pictures(images, labels, boxes)
