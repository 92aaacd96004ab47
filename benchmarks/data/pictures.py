"""One picture's file, decoded."""

import io
import warnings

import numpy as np
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Names of pictures' files end so, in either case, as for torchvision's ``ImageFolder``."""

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
"""What a whole file has near its end, by format."""

_TAIL = 4096  # some cameras and tools append a little, few more


class PictureError(ValueError):
    """A picture's file is not a picture, or not a whole one."""


def decode(content: bytes) -> Image.Image:
    """Return a picture in RGB.

    Whatever the file is called, its content decides. Orientation tags are not followed: neither
    torchvision's ``ImageFolder`` follows them, nor did the paper's code. Transparency is dropped,
    gray is repeated, 16-bit gray keeps its upper 8 bits.

    Raises:
        PictureError: It cannot be decoded, or would take unreasonable memory.
    """
    with warnings.catch_warnings():
        # Pillow warns of what may be a decompression bomb, and refuses what is twice as large.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)  # odd EXIF data, palettes with transparency
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


def fault(content: bytes) -> str | None:
    """Return why a file is no whole picture; pixels are decoded only if its end is not in sight."""
    if not content:
        return "empty file"
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)
        try:
            found = Image.open(io.BytesIO(content)).format
        except Exception as error:
            return "not a picture" if "identify" in str(error) else str(error)
    end = _ENDS.get(str(found))
    if end is None or end in content[-_TAIL:]:
        return None
    try:
        decode(content)
    except PictureError as error:
        return f"truncated, or with more behind its end than usual ({error})"
    return None
