"""Every picture is decoded to RGB, or refused by name before a run begins."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from antiparallel.benchmarks.data.images import Images, open_images
from antiparallel.benchmarks.data.pictures import PictureError, decode, fault, strict
from antiparallel.benchmarks.data.transforms import Preprocessing
from antiparallel.spec import SpecError

from .conftest import encoded, noise, photograph, replaced, zipped

SMALL = Preprocessing(16, 20, "random-crop")


def shown(images: Images) -> np.ndarray:
    """Return all training pictures of one epoch, by their order on disk."""
    batches = list(images.train_batches(seed=0, epoch=0, start=0, stop=9, batch_size=2))
    return np.concatenate([batch.images for batch in batches])


def bomb(side: int) -> bytes:
    """Return a small PNG that says it is a square of this many pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def with_thumbnail() -> bytes:
    """Return a JPEG that has another one, with an end of its own, in its head."""
    return encoded(photograph(0, 3), quality=95, comment=encoded(photograph(0, 3, (20, 15))))


BROKEN = {
    "empty": (b"", "empty file"),
    "truncated": (encoded(photograph(0, 3), quality=95)[:-500], "truncated"),
    "truncated behind a thumbnail": (with_thumbnail()[:-500], "truncated"),
    "truncated PNG": (encoded(photograph(0, 3), "PNG")[:-500], "truncated"),
    "truncated TIFF": (encoded(photograph(0, 3), "TIFF", compression="raw")[:-500], "OSError"),
    "text": (b"not a picture at all", "not a picture"),
    "bomb": (bomb(40_000), "decompression bomb"),
    "what may be a bomb": (bomb(10_000), "could be decompression bomb"),
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


@pytest.mark.parametrize("workers", [0, 1])
def test_odd_pictures_pass_the_check_and_are_shown(tree: Path, workers: int):
    gray = Image.fromarray(grays())
    tag = Image.Exif()
    tag[0x0112] = 6  # turned by a quarter
    odd = {
        "train/flower/000.JPEG": encoded(photograph(0, 0).convert("CMYK")),
        "train/flower/001.JPEG": encoded(gray),
        "train/flower/002.JPEG": encoded(Image.fromarray(grays().astype(np.uint16) * 257), "PNG"),
        "train/flower/003.JPEG": encoded(gray, "WEBP"),
        "train/flower/004.JPEG": encoded(photograph(0, 4), exif=tag),
        "train/flower/005.JPEG": encoded(photograph(0, 5).quantize(8), "PNG", transparency=3),
    }
    for name, content in odd.items():
        replaced(tree, content, name)
    images = open_images(tree, SMALL, workers=workers)
    assert shown(images).shape == (18, 16, 16, 3)
    assert "skipped" not in images.describe()
    images.close()


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM"])
def test_a_picture_of_any_kind_that_lacks_its_end_is_found(kind: str):
    whole = encoded(photograph(0, 3), kind)
    with strict():
        assert fault(io.BytesIO(whole)) is None
        for length in range(0, len(whole) - 20, 97):
            assert fault(io.BytesIO(whole[:length])), length


class Counted(io.BytesIO):
    """Counts what is read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_of_a_large_file_only_head_and_tail_are_read(kind: str):
    file = Counted(encoded(Image.fromarray(noise(512)), kind))
    with strict():
        assert fault(file) is None
    assert len(file.getvalue()) > 100_000
    assert file.count < 10_000


def test_the_progress_of_the_check_is_told(tree: Path):
    told: list[tuple[int, int]] = []
    open_images(tree, SMALL, watch=lambda done, total: told.append((done, total)))
    assert told == [(18, 26), (26, 26)]


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
