"""Objects in pictures: where the arrays show them, and back to the pictures as they are on disk."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from antiparallel.benchmarks.data.annotations import Annotations
from antiparallel.benchmarks.data.batches import Batch
from antiparallel.benchmarks.data.transforms import Preprocessing

_NOWHERE = (-10_001.0, -10_001.0, -10_000.0, -10_000.0)
"""The box of rows without an object: far away and with an area, for codes that divide by it."""


class Objects:
    """The objects to learn in a split's pictures, where the arrays show them.

    Args:
        annotations: The pictures, and all objects.
        preprocessing: How pictures become arrays.
    """

    def __init__(self, annotations: Annotations, preprocessing: Preprocessing) -> None:
        pictures = annotations.pictures
        sides = np.array(
            [
                preprocessing.sides_on_canvas(*pair)
                for pair in pictures[["width", "height"]].tolist()
            ],
            np.int64,
        ).reshape(-1, 2)
        self.annotations = annotations
        self._widths = sides[:, 0]
        self._ratios = sides / np.stack([pictures["width"], pictures["height"]], axis=1)
        learnt = annotations.objects[annotations.learnable]
        self._labels = learnt["label"]
        self._boxes = annotations.corners[annotations.learnable] * np.tile(
            self._ratios[learnt["place"]], 2
        )
        self._starts = np.searchsorted(learnt["place"], np.arange(len(pictures) + 1))

    @property
    def most(self) -> int:
        """The most objects of any picture."""
        return int(np.diff(self._starts).max(initial=0))

    def batch(self, images: Batch, rows: int, flipped: Sequence[bool]) -> Batch:
        """Return a batch with its objects in place of its pictures' places.

        Args:
            images: Pictures, and as their labels their places in the split.
            rows: Rows that every picture gets.
            flipped: Whether each is shown with left and right exchanged.
        """
        labels = np.full((len(images.labels), rows), -1, np.int64)
        boxes = np.full((*labels.shape, 4), _NOWHERE, np.float32)
        for row, (place, flip) in enumerate(zip(images.labels.tolist(), flipped, strict=True)):
            objects = slice(self._starts[place], self._starts[place + 1])
            found = self._boxes[objects]
            if flip:
                left, top, right, bottom = found.T
                width = self._widths[place]
                found = np.stack([width - right, top, width - left, bottom], axis=1)
            labels[row, : len(found)] = self._labels[objects]
            boxes[row, : len(found)] = found
        return Batch(images.images, labels, boxes)

    def detections(self, predictions: Sequence[Any]) -> list[dict[str, Any]]:
        """Return what was found in each picture, in COCO's format of results.

        Boxes are those of the arrays, and here of the pictures, outside of which they are cut off.
        Rows that are not finite, of a network that has diverged, are left out.
        """
        pictures = self.annotations.pictures
        numbers = list(self.annotations.categories)
        found = []
        for picture, ratios, rows in zip(pictures, self._ratios, predictions, strict=True):
            table = np.array(rows, np.float64).reshape(-1, 6)
            table = table[np.isfinite(table).all(axis=1)]
            sides = np.array([picture["width"], picture["height"]])
            corners = np.clip(table[:, :4] / np.tile(ratios, 2), 0, np.tile(sides, 2))
            corners[:, 2:] -= corners[:, :2]
            for box, score, label in zip(
                corners.tolist(), table[:, 4].tolist(), table[:, 5].tolist(), strict=True
            ):
                found.append(
                    {
                        "image_id": int(picture["id"]),
                        "category_id": numbers[int(label)],
                        "bbox": box,
                        "score": score,
                    }
                )
        return found

    def __str__(self) -> str:
        return f"{len(self.annotations.names)} pictures, {len(self._labels)} objects"
