"""One picture's file, decoded."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Names of pictures' files end so, in either case, as for torchvision's ``ImageFolder``."""

_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
"""What a whole file has near its end, by format; MPO is JPEG with more pictures behind."""

_TAIL = 4096  # some cameras and tools append a little, few more


class PictureError(ValueError):
    """A picture's file is not a picture, or not a whole one."""


@contextmanager
def strict() -> Iterator[None]:
    """Make Pillow refuse what may be a decompression bomb, and say nothing of lesser oddities.

    Warnings belong to the process: threads that look at pictures share one such block.
    """
    with warnings.catch_warnings():
        # Pillow warns of what may be a bomb, and refuses only what is twice as large.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)  # odd EXIF data, palettes with transparency
        yield


def decode(content: bytes) -> Image.Image:
    """Return a picture in RGB.

    Whatever the file is called, its content decides. Orientation tags are not followed: neither
    torchvision's ``ImageFolder`` follows them, nor did the paper's code. Transparency is dropped,
    gray is repeated, 16-bit gray keeps its upper 8 bits.

    Raises:
        PictureError: It cannot be decoded, or would take unreasonable memory.
    """
    with strict():
        return _decoded(content)


def fault(file: BinaryIO, listed: tuple[int, int] | None = None) -> str | None:
    """Return why a file is no whole picture, or None; to be called in ``strict``.

    Head and tail are read. Only if the end is not in sight there, as it never is in formats that
    do not mark it, the whole file is read and decoded.

    Args:
        file: The file.
        listed: The width and height that it should have, if they are known.
    """
    size = file.seek(0, io.SEEK_END)
    if not size:
        return "empty file"
    file.seek(0)
    try:
        image = Image.open(file)
    except Exception as error:  # decoders raise whatever they like on broken files
        return "not a picture" if "identify" in str(error) else str(error)
    if listed is not None and image.size != listed:
        return "{} x {} pixels, not {} x {} as listed".format(*image.size, *listed)
    # Only behind the head: a thumbnail in it has an end too.
    file.seek(max(file.tell(), size - _TAIL))
    end = _ENDS.get(str(image.format))
    if end is not None and end in file.read():
        return None
    file.seek(0)
    try:
        _decoded(file.read())
    except PictureError as error:
        return f"{error}" if end is None else f"truncated ({error})"
    return None


def _decoded(content: bytes) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(content))
        if image.mode == "F":
            raise PictureError("pixels in floating point, whose range is unknown")
        if image.mode.startswith("I"):
            pixels = np.asarray(image)
            image = Image.fromarray((pixels.clip(0, 65535) >> 8).astype(np.uint8))
        return image.convert("RGB")
    except PictureError:
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        raise PictureError(f"{type(error).__name__}: {error}") from error
