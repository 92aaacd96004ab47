"""Every picture is decoded to RGB, or refused by name before a run begins."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from antiparallel.benchmarks.data.images import Images, open_images
from antiparallel.benchmarks.data.pictures import PictureError, decode
from antiparallel.benchmarks.data.transforms import Preprocessing
from antiparallel.spec import SpecError

from .conftest import encoded, noise, photograph, replaced, zipped

SMALL = Preprocessing(16, 20, "random-crop")


def shown(images: Images) -> np.ndarray:
    """Return all training pictures of one epoch, by their order on disk."""
    batches = list(images.train_batches(seed=0, epoch=0, start=0, stop=9, batch_size=2))
    return np.concatenate([batch.images for batch in batches])


def bomb() -> bytes:
    """Return a small PNG that says it has a billion pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


BROKEN = {
    "empty": (b"", "empty file"),
    "truncated": (encoded(photograph(0, 3), quality=95)[:-500], "truncated"),
    "text": (b"not a picture at all", "not a picture"),
    "bomb": (bomb(), "decompression bomb"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("in_a_zip", [False, True])
def test_a_broken_picture_is_named_before_the_run_begins(tree: Path, kind: str, in_a_zip: bool):
    content, reason = BROKEN[kind]
    name = replaced(tree, content)
    if in_a_zip:
        zipped(tree)
    expected = rf"skip-bad-images 1 .*Received: train(\.zip)?/flower/003.JPEG: .*{reason}"
    with pytest.raises(SpecError, match=expected):
        open_images(tree, SMALL)
    assert name.endswith("flower/003.JPEG")


def test_as_many_broken_pictures_as_allowed_are_left_out_and_listed(tree: Path):
    replaced(tree, b"")
    replaced(tree, b"text", "val/temple/001.JPEG")
    images = open_images(tree, SMALL, skip_bad_images=2)
    assert images.train_size == 17
    assert images.describe()["validation"] == "7 pictures"
    assert images.describe()["skipped"].count("JPEG") == 2
    with pytest.raises(SpecError, match=r"Received: train/flower/003.JPEG: empty file; val/temple"):
        open_images(tree, SMALL, skip_bad_images=1)


def test_a_picture_whose_pixels_are_broken_stops_the_run_by_name(tree: Path):
    whole = encoded(Image.fromarray(noise()), "PNG")
    broken = bytearray(whole)
    broken[len(broken) // 2 : len(broken) // 2 + 40] = b"x" * 40
    replaced(tree, bytes(broken))
    images = open_images(tree, SMALL)
    with pytest.raises(SpecError, match=r"can be decoded .*Received: train/flower/003.JPEG"):
        shown(images)


def grays() -> np.ndarray:
    return np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(2, 0).repeat(2, 1)


def test_gray_transparent_and_indexed_pictures_become_rgb():
    gray, rgb = grays(), noise()
    alpha = np.full((64, 64, 1), 100, np.uint8)
    cases = {
        "gray": (Image.fromarray(gray), np.stack([gray] * 3, -1)),
        "gray of 16 bits": (
            Image.fromarray(gray.astype(np.uint16) * 257),
            np.stack([gray] * 3, -1),
        ),
        "gray with transparency": (
            Image.merge("LA", [Image.fromarray(gray), Image.fromarray(255 - gray)]),
            np.stack([gray] * 3, -1),
        ),
        "transparent": (Image.fromarray(np.concatenate([rgb, alpha], -1)), rgb),
        "black and white": (
            Image.fromarray(gray).point(lambda value: 255 * (value > 99)).convert("1"),
            np.stack([255 * (gray > 99)] * 3, -1),
        ),
    }
    for name, (image, expected) in cases.items():
        assert (np.asarray(decode(encoded(image, "PNG"))) == expected).all(), name
    indexed = Image.fromarray(rgb).quantize(16)
    assert (np.asarray(decode(encoded(indexed, "PNG"))) == np.asarray(indexed.convert("RGB"))).all()


def test_cmyk_pictures_become_rgb():
    image = photograph(0, 1).convert("CMYK")
    content = encoded(image, quality=95)
    assert decode(content).mode == "RGB"
    difference = np.asarray(decode(content), float) - np.asarray(photograph(0, 1), float)
    assert abs(difference).mean() < 4  # of 255: the loss of JPEG


def test_what_follows_the_end_of_a_picture_is_no_fault(tree: Path):
    replaced(tree, encoded(photograph(0, 3)) + bytes(10_000))
    assert open_images(tree, SMALL).train_size == 18


def test_a_picture_in_floating_point_is_refused():
    with pytest.raises(PictureError, match="floating point"):
        decode(encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"))


def test_content_decides_and_not_the_name(tree: Path):
    replaced(tree, encoded(photograph(0, 3), "PNG"))
    assert shown(open_images(tree, SMALL)).shape == (18, 16, 16, 3)


def test_orientation_tags_are_not_followed():
    tag = Image.Exif()
    tag[0x0112] = 6  # turned by a quarter
    image = photograph(1, 2)
    turned = decode(encoded(image, "PNG", exif=tag))
    assert (np.asarray(turned) == np.asarray(image)).all()
