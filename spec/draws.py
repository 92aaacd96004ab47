"""Random numbers that are the same in every framework, on every device, in every process.

A draw is a pure function of (seed, layer index, purpose, count): Philox-4x64-10, a
counter-based generator, is keyed by (seed, index) and its counter starts at
``(0, count, purpose, 0)``. Numbers are derived from the raw 64-bit words as SPEC.md says, not
by NumPy's distributions, whose streams may change between NumPy releases.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from math import pi, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiparallel.spec.contract import Array
from antiparallel.spec.errors import SpecError
from antiparallel.spec.geometry import Dense, Geometry

_BLOCK = 4  # words that Philox-4x64 makes of one counter
_CHUNK = 1 << 13  # fits the cache; even, so that Box-Muller pairs never straddle two chunks
_SHARE = 1 << 18  # of one thread; whole chunks and whole blocks


class Purpose(IntEnum):
    """What a draw is for; draws for different purposes are independent."""

    WEIGHT = 0
    FEEDBACK = 1
    BATCH_MAGNITUDE = 2


def draw(
    geometry: Geometry,
    scale: float,
    *,
    seed: int,
    index: int,
    purpose: Purpose,
    count: int = 0,
) -> NDArray[np.float64]:
    """Draw one array from a layer's initialisation distribution.

    ``N(0, lambda^2)`` for convolutions, ``U(-lambda, lambda)`` for dense layers.

    Args:
        geometry: The layer.
        scale: Its lambda.
        seed: The experiment's seed, ``0 <= seed < 2**64``.
        index: The layer's place among the model's weight layers, ``0 <= index < 2**64``.
        purpose: What the numbers are for.
        count: How many draws for this purpose came before, ``0 <= count < 2**64``.

    Returns:
        Float64 numbers in the canonical layout ``(n_out, n_in / groups, *kernel)``.

    Raises:
        SpecError: seed, index or count is out of range.

    References:
        Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3"; Box and Muller (1958).
    """
    for field, value in (("seed", seed), ("index", index), ("count", count)):
        require_word(field, value)
    transform = _symmetric_uniform if isinstance(geometry, Dense) else _normal
    size = prod(geometry.weight_shape)
    values = np.empty(size + size % 2)

    def fill(start: int) -> None:
        generator = np.random.Philox(
            key=np.array([seed, index], dtype=np.uint64),
            counter=np.array([start // _BLOCK, count, purpose, 0], dtype=np.uint64),
        )
        for begin in range(start, min(start + _SHARE, size), _CHUNK):
            chunk = values[begin : begin + _CHUNK]
            transform(_unit(generator.random_raw(chunk.size)), chunk)
            chunk *= scale

    shares = range(0, size, _SHARE)
    if len(shares) > 1:
        # Drawing is nearly all of a conversion to fa and, under ss-batch, a part of every step.
        with ThreadPoolExecutor(min(len(shares), os.cpu_count() or 1)) as pool:
            list(pool.map(fill, shares))
    else:
        for start in shares:
            fill(start)
    return values[:size].reshape(geometry.weight_shape)


def rounded(values: NDArray[np.float64], dtype: np.dtype[Any]) -> Array:
    """Round float64 numbers once to a weight's dtype; to one narrower than float32, from float32.

    Args:
        values: Numbers in float64.
        dtype: A floating dtype.
    """
    return values.astype(np.float32).astype(dtype) if dtype.itemsize < 4 else values.astype(dtype)


def require_word(field: str, value: int) -> None:
    """Raise SpecError unless the value is an integer in ``[0, 2**64)``."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise SpecError(f"Expected {field} to be an integer. Received: {field}={value!r}")
    if not 0 <= value < 2**64:
        raise SpecError(f"Expected 0 <= {field} < 2**64. Received: {field}={value!r}")


def _unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Turn words into numbers in [0, 1) by their upper 53 bits."""
    words >>= np.uint64(11)
    units = words.astype(np.float64)
    units *= 2.0**-53
    return units


def _symmetric_uniform(units: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    np.multiply(units, 2, out=out)
    out -= 1


def _normal(units: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Box-Muller on successive pairs; ``1 - u`` is exact and never 0."""
    radius = np.sqrt(-2 * np.log(1 - units[0::2]))
    angle = 2 * pi * units[1::2]
    np.multiply(radius, np.cos(angle), out=out[0::2])
    np.multiply(radius, np.sin(angle), out=out[1::2])
