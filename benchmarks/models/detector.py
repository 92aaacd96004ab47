"""What both libraries' RetinaNet have in common: anchors, losses and detections, in numbers.

Lin et al. (2017), Focal loss for dense object detection; where the paper leaves a choice,
torchvision's.
"""

import math

from antiparallel.spec import SpecError

LEVELS = range(3, 8)
"""Levels of the pyramid: level l has one cell for 2**l pixels."""

SCALES = 3
ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Anchors of a cell: sizes ``2 ** (scale / SCALES)`` times the level's, in these heights/widths."""

POSITIVE, NEGATIVE = 0.5, 0.4
"""From which overlap with an object an anchor is to find it, and below which it is background."""

ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss: the weight of objects, and how fast easy anchors count less."""

PRIOR = 0.01
"""The probability of each class at each anchor before training."""

PRIOR_BIAS = -math.log((1 - PRIOR) / PRIOR)

SCORE, OVERLAP = 0.05, 0.5
"""Detections have a higher score, and no better one of their class that overlaps more."""

CANDIDATES, DETECTIONS = 1000, 100
"""The most candidates of each level of a picture, and the most detections of a picture."""


def anchor_sizes(anchor_size: float) -> list[tuple[int, ...]]:
    """Return the sides of each level's square anchors, in pixels.

    Args:
        anchor_size: The side of a level's smallest anchors, in strides of the level.

    Raises:
        SpecError: The smallest anchors would have no area once their corners are whole pixels.
    """
    if int(anchor_size * 2 ** LEVELS[0]) < 2:
        raise SpecError(f"Expected anchor_size >= 0.25. Received: anchor_size={anchor_size}")
    return [
        tuple(int(2**level * anchor_size * 2 ** (scale / SCALES)) for scale in range(SCALES))
        for level in LEVELS
    ]


def grids(size: int) -> list[int]:
    """Return how many cells each level has in each direction, for pictures of a size."""
    return [-(-size // 2**level) for level in LEVELS]
