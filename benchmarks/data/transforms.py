"""Crops and flips, each a pure function of (seed, epoch, index of the picture)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Augmentation = Literal["random-resized-crop", "random-crop", "padded-crop", "flip"]
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_PURPOSE = 17  # apart from the order's, which is 16
_AREA, _RATIO, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
_PADDING = 4

MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)
"""ImageNet's, of red, green and blue, in 0 to 255; the customary ones, for all photographs."""

_FILL = tuple(round(channel) for channel in MEAN)  # about 0 when standardised


@dataclass(frozen=True)
class Preprocessing:
    """How pictures of any size become arrays of one size.

    Args:
        size: Height and width of the arrays.
        resize: The shorter side of validation pictures before their centre is cut out; of
            training pictures too, unless "random-resized-crop".
        augmentation: What is cut out of a training picture, before it is flipped by an even
            chance. "random-resized-crop": a rectangle of 8 to 100 % of the area and a ratio of
            3/4 to 4/3, resized. "random-crop": a square of the resized picture. "padded-crop":
            the same after 4 black pixels were added on every side. "flip": the whole picture, as
            validation pictures are shown then too: its shorter side as long as ``resize`` if the
            longer one does not exceed ``size``, in the top left corner, and ImageNet's mean
            around it.
    """

    size: int
    resize: int
    augmentation: Augmentation

    def training(self, image: Image.Image, *, seed: int, epoch: int, index: int) -> Pixels:
        """Return a training picture as this epoch shows it, ``(size, size, 3)``."""
        if self.augmentation == "flip":
            return self._on_canvas(image, is_flipped(seed=seed, epoch=epoch, index=index))
        draws = _Draws(seed, epoch, index)
        flip = draws.uniform() < 0.5
        if self.augmentation == "random-resized-crop":
            image = image.crop(random_box(image.width, image.height, draws.uniform))
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        else:
            image = resized(image, self.resize)
            if self.augmentation == "padded-crop":
                width, height = image.width + 2 * _PADDING, image.height + 2 * _PADDING
                padded = Image.new("RGB", (width, height))
                padded.paste(image, (_PADDING, _PADDING))
                image = padded
            left = draws.integer(image.width - self.size)
            top = draws.integer(image.height - self.size)
            image = image.crop((left, top, left + self.size, top + self.size))
        if flip:  # here and not as a view, which would be slow to copy
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(image)

    def validation(self, image: Image.Image) -> Pixels:
        """Return a validation picture, ``(size, size, 3)``: its centre after resizing, or all."""
        if self.augmentation == "flip":
            return self._on_canvas(image, flip=False)
        image = resized(image, self.resize)
        left = round((image.width - self.size) / 2)
        top = round((image.height - self.size) / 2)
        return np.asarray(image.crop((left, top, left + self.size, top + self.size)))

    def sides_on_canvas(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height that a whole picture ("flip") has among the array's pixels.

        Args:
            width: The picture's width.
            height: The picture's height.
        """
        shorter, longer = sorted((width, height))
        factor = min(self.resize / shorter, self.size / longer)
        return max(1, round(width * factor)), max(1, round(height * factor))

    def _on_canvas(self, image: Image.Image, flip: bool) -> Pixels:
        sides = self.sides_on_canvas(image.width, image.height)
        if image.size != sides:
            image = image.resize(sides, Image.Resampling.BILINEAR)
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        canvas = Image.new("RGB", (self.size, self.size), _FILL)
        canvas.paste(image, (0, 0))
        return np.asarray(canvas)


def is_flipped(*, seed: int, epoch: int, index: int) -> bool:
    """Return whether an epoch shows a training picture with left and right exchanged."""
    return _Draws(seed, epoch, index).uniform() < 0.5


def resized(image: Image.Image, shorter: int) -> Image.Image:
    """Return a picture whose shorter side has this length, by bilinear interpolation."""
    width, height = image.size
    if min(width, height) == shorter:
        return image
    longer = int(shorter * max(width, height) / min(width, height))
    size = (shorter, longer) if width <= height else (longer, shorter)
    return image.resize(size, Image.Resampling.BILINEAR)


def random_box(width: int, height: int, uniform: Callable[[], float]) -> Box:
    """Return (left, top, right, bottom) of a random rectangle in a picture.

    Args:
        width: The picture's width.
        height: The picture's height.
        uniform: Draws from [0, 1).

    References:
        C. Szegedy et al. (2015), Going Deeper with Convolutions, in the form of torchvision's
        ``RandomResizedCrop``: ten tries, then the largest central rectangle of an allowed ratio.
    """
    for _ in range(_TRIES):
        area = width * height * (_AREA[0] + (_AREA[1] - _AREA[0]) * uniform())
        low, high = map(math.log, _RATIO)
        ratio = math.exp(low + (high - low) * uniform())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        left, top = uniform(), uniform()
        if 0 < w <= width and 0 < h <= height:
            x, y = int(left * (width - w + 1)), int(top * (height - h + 1))
            return x, y, x + w, y + h
    w, h = width, height
    if width / height < _RATIO[0]:
        h = round(w / _RATIO[0])
    elif width / height > _RATIO[1]:
        w = round(h * _RATIO[1])
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h


class _Draws:
    """Numbers from raw 64-bit Philox words, keyed by (seed, epoch) and counted by the picture."""

    def __init__(self, seed: int, epoch: int, index: int) -> None:
        self._words = np.random.Philox(
            key=np.array([seed, epoch], dtype=np.uint64),
            counter=np.array([0, index, _PURPOSE, 0], dtype=np.uint64),
        )

    def uniform(self) -> float:
        """Return a number in [0, 1), of 53 random bits."""
        return float(int(self._words.random_raw()) >> 11) * 2.0**-53

    def integer(self, last: int) -> int:
        """Return a whole number in [0, last]."""
        return int(self.uniform() * (last + 1))
