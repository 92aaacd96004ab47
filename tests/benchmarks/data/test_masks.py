"""Masks that pycocotools writes are whole, and damaged ones never are."""

from typing import Any

import numpy as np
import pytest

from antiparallel.benchmarks.data.masks import mask_fault

mask = pytest.importorskip("pycocotools.mask")

WIDTH, HEIGHT = 70, 50


def region(seed: int) -> np.ndarray:
    """Return a mask with runs of all lengths: of one pixel, and of thousands."""
    chance = np.random.default_rng(seed)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    left, top = chance.integers(20, size=2)
    pixels[top : top + chance.integers(1, 30), left : left + chance.integers(1, 50)] = 1
    pixels[:, 60:] = chance.random((HEIGHT, 10)) < 0.5
    return pixels


def compressed(pixels: np.ndarray) -> str:
    text: str = mask.encode(pixels)["counts"].decode()
    return text


def runs(pixels: np.ndarray) -> list[int]:
    """Return the lengths of runs, down the columns, of zeros and ones in turn."""
    flat = pixels.ravel(order="F")
    ends = [*np.flatnonzero(np.diff(flat)) + 1, flat.size]
    found = np.diff([0, *ends]).tolist()
    return [0, *found] if flat[0] else found


def fault(counts: Any, size: Any = (HEIGHT, WIDTH)) -> str | None:
    return mask_fault({"size": list(size), "counts": counts}, WIDTH, HEIGHT)


@pytest.mark.parametrize("seed", range(20))
def test_whole_masks_have_no_fault(seed: int):
    pixels = region(seed)
    assert fault(compressed(pixels)) is None
    assert fault(runs(pixels)) is None


@pytest.mark.parametrize("value", [0, 1])
def test_masks_of_all_or_nothing_have_no_fault(value: int):
    pixels = np.full((HEIGHT, WIDTH), value, np.uint8, order="F")
    assert fault(compressed(pixels)) is None
    assert fault(runs(pixels)) is None


@pytest.mark.parametrize("seed", range(3))
def test_a_text_without_its_end_has_a_fault(seed: int):
    text = compressed(region(seed))
    assert all(fault(text[:end]) is not None for end in range(len(text)))


@pytest.mark.parametrize(
    ("counts", "named"),
    [
        ([WIDTH * HEIGHT, 1], "counts of 3501 pixels, not 3500"),
        ([WIDTH * HEIGHT - 1], "counts of 3499 pixels, not 3500"),
        ([], "counts of 0 pixels"),
        ("", "counts of 0 pixels"),
        ([-1, WIDTH * HEIGHT + 1], "negative counts"),
        ([True, WIDTH * HEIGHT - 1], "no list of whole numbers"),
        ([1.0, WIDTH * HEIGHT - 1], "no list of whole numbers"),
        ([[1], WIDTH * HEIGHT - 1], "no list of whole numbers"),
        (None, "no list of whole numbers"),
        ({}, "no list of whole numbers"),
        ("/", "no compressed numbers"),
        ("p", "no compressed numbers"),
        ("\N{GREEK SMALL LETTER ALPHA}", "no compressed numbers"),
        ("P" * 10_000 + "0", "no compressed numbers"),
        ("P", "no compressed numbers"),
    ],
)
def test_counts_that_cannot_be_are_said(counts: Any, named: str):
    assert named in str(fault(counts))


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (HEIGHT,), (), ("50", "70"), (50, 70, 1)])
def test_a_size_unlike_the_picture_s_is_said(size: Any):
    assert "not [50, 70]" in str(fault([WIDTH * HEIGHT], size))


def test_keys_that_are_missing_are_said():
    assert "size None" in str(mask_fault({}, WIDTH, HEIGHT))
    assert "whole numbers" in str(mask_fault({"size": [HEIGHT, WIDTH]}, WIDTH, HEIGHT))
