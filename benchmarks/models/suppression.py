"""What a detector's outputs say is in a picture, as torchvision makes it of them, in NumPy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.models.detector import CANDIDATES, DETECTIONS, OVERLAP, SCORE

Floats = NDArray[np.float32]

_LARGEST = math.log(1000 / 16)
"""The largest logarithm of a side that is believed: torchvision's."""


def detected(
    logits: Floats, deltas: Floats, anchors: Sequence[Floats], size: int
) -> list[list[float]]:
    """Return what is found in a picture.

    As ``torchvision.models.detection.RetinaNet.postprocess_detections``; of equal scores the
    earlier anchor's comes first, which torchvision leaves to chance.

    Args:
        logits: Of each anchor and class, ``(anchors, classes)``.
        deltas: Each anchor's box, encoded, ``(anchors, 4)``.
        anchors: Each level's anchors, ``(anchors, 4)``: left, top, right, bottom in pixels.
        size: Height and width of the picture.

    Returns:
        A row for each object, best first: left, top, right, bottom in pixels, score, class.
    """
    ends = np.cumsum([len(level) for level in anchors])[:-1]
    levels = zip(np.split(logits, ends), np.split(deltas, ends), anchors, strict=True)
    boxes, scores, classes = (
        np.concatenate(parts)
        for parts in zip(*(_candidates(*level, size) for level in levels), strict=True)
    )
    kept = _suppressed(boxes, scores, classes)[:DETECTIONS]
    columns = (boxes[kept], scores[kept, None], classes[kept, None].astype(np.float32))
    rows: list[list[float]] = np.concatenate(columns, 1).tolist()
    return rows


def _candidates(
    logits: Floats, deltas: Floats, anchors: Floats, size: int
) -> tuple[Floats, NDArray[Any], NDArray[Any]]:
    """Return boxes, scores and classes of a level's best anchors, best first."""
    with np.errstate(over="ignore"):  # a score of 0 for logits below -88
        scores = 1 / (1 + np.exp(-logits.ravel()))
    above = np.flatnonzero(scores > SCORE)
    best = above[np.argsort(-scores[above], kind="stable")[:CANDIDATES]]
    places, classes = np.divmod(best, logits.shape[1])
    boxes = _decoded(deltas[places], anchors[places])
    return boxes.clip(0, size), scores[best], classes


def _decoded(deltas: Floats, anchors: Floats) -> Floats:
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + np.float32(0.5) * sides + deltas[:, :2] * sides
    half = np.float32(0.5) * np.exp(np.minimum(deltas[:, 2:], np.float32(_LARGEST))) * sides
    return np.concatenate([centres - half, centres + half], 1)


def _suppressed(boxes: Floats, scores: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """Return which boxes no better one of their class overlaps with, best first."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    alive = np.ones(len(order), bool)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for place, best in enumerate(order):
        if not alive[place]:
            continue
        kept.append(best)
        if len(kept) == DETECTIONS:
            break
        rest = (
            place
            + 1
            + np.flatnonzero(alive[place + 1 :] & (classes[order[place + 1 :]] == classes[best]))
        )
        others = order[rest]
        corners = np.minimum(boxes[best, 2:], boxes[others, 2:]) - np.maximum(
            boxes[best, :2], boxes[others, :2]
        )
        shared = corners.clip(0).prod(1)
        union = areas[best] + areas[others] - shared
        alive[rest[shared > np.float32(OVERLAP) * union]] = False
    return np.array(kept, int)
