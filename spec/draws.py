"""Random numbers that are the same in every framework, on every device, in every process.

A draw is a pure function of (seed, layer index, purpose, count): Philox-4x64-10, a
counter-based generator, is keyed by (seed, index) and its counter starts at
``(0, count, purpose, 0)``. Numbers are derived from the raw 64-bit words as SPEC.md says, not
by NumPy's distributions, whose streams may change between NumPy releases.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from fractions import Fraction
from math import ldexp, pi, prod, sin
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from antiparallel.spec.contract import Array
from antiparallel.spec.errors import SpecError
from antiparallel.spec.geometry import Dense, Geometry

_BLOCK = 4  # words that Philox-4x64 makes of one counter
_CHUNK = 1 << 15  # fits the cache; even, so that Box-Muller pairs never straddle two chunks
_SHARE = 1 << 18  # of one thread; whole chunks and whole blocks

# Sines and cosines of a whole turn in 256 steps, from the first quarter's: where they are small,
# those of a rounded angle would be off by many units in the last place.
_RISING = np.sin(np.arange(65) * (pi / 128))
_SINES = np.concatenate([_RISING, _RISING[-2:0:-1], -_RISING, -_RISING[-2:0:-1]])
_COSINES = np.roll(_SINES, -64)
# pi / 128 in three parts; products of the first two with whole numbers up to 256 are exact.
_EXACT_STEP = (Fraction(pi) + Fraction(sin(pi))) / 128  # sin(pi) is what the float64 pi lacks
_STEP = ldexp(round(_EXACT_STEP * 2**49), -49)
_STEP_MIDDLE = ldexp(round((_EXACT_STEP - Fraction(_STEP)) * 2**94), -94)
_STEP_REST = float(_EXACT_STEP - Fraction(_STEP) - Fraction(_STEP_MIDDLE))


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
    dtype: DTypeLike = np.float64,
) -> Array:
    """Draw one array from a layer's initialisation distribution.

    ``N(0, lambda^2)`` for convolutions, ``U(-lambda, lambda)`` for dense layers.

    Args:
        geometry: The layer.
        scale: Its lambda.
        seed: The experiment's seed, ``0 <= seed < 2**64``.
        index: The layer's place among the model's weight layers, ``0 <= index < 2**64``.
        purpose: What the numbers are for.
        count: How many draws for this purpose came before, ``0 <= count < 2**64``.
        dtype: A floating dtype that the numbers, found in float64, are ``rounded`` to.

    Returns:
        Numbers in the canonical layout ``(n_out, n_in / groups, *kernel)``.

    Raises:
        SpecError: seed, index or count is out of range, or the dtype is not a floating one.

    References:
        Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3"; Box and Muller (1958).
    """
    for field, value in (("seed", seed), ("index", index), ("count", count)):
        require_word(field, value)
    transform = _symmetric_uniform if isinstance(geometry, Dense) else _normal
    size = prod(geometry.weight_shape)
    values = np.empty(size, dtype)
    if values.dtype.kind != "f":
        raise SpecError(f"Expected a floating dtype. Received: dtype={values.dtype}")

    def fill(start: int) -> None:
        generator = np.random.Philox(
            key=np.array([seed, index], dtype=np.uint64),
            counter=np.array([start // _BLOCK, count, purpose, 0], dtype=np.uint64),
        )
        for begin in range(start, min(start + _SHARE, size), _CHUNK):
            rest = size - begin
            chunk = np.empty(min(_CHUNK, rest + rest % 2))  # whole pairs
            transform(_unit(generator.random_raw(chunk.size)), chunk)
            chunk *= scale
            values[begin : begin + _CHUNK] = rounded(chunk[:rest], values.dtype)

    shares = range(0, size, _SHARE)
    if len(shares) > 1:
        # Drawing is nearly all of a conversion to fa and, under ss-batch, a part of every step.
        with ThreadPoolExecutor(min(len(shares), os.cpu_count() or 1)) as pool:
            list(pool.map(fill, shares))
    else:
        for start in shares:
            fill(start)
    return values.reshape(geometry.weight_shape)


def rounded(values: Array, dtype: np.dtype[Any]) -> Array:
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
    cosine, sine = _cosine_and_sine(2 * pi * units[1::2])
    np.multiply(radius, cosine, out=out[0::2])
    np.multiply(radius, sine, out=out[1::2])


def _cosine_and_sine(angle: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cosine and sine of angles from 0 to a whole turn, each to its last places.

    NumPy's own take two thirds of a draw. Here an angle is the nearest of 256 known angles k and
    a rest d of at most pi / 256, whose sine and cosine are short series, and

        cos(k + d) = cos k - (cos k (1 - cos d) + sin k sin d)
        sin(k + d) = sin k + (cos k sin d - sin k (1 - cos d))
    """
    nearest = np.rint(angle * (128 / pi))
    d = angle - nearest * _STEP
    d -= nearest * _STEP_MIDDLE
    d -= nearest * _STEP_REST
    known = nearest.astype(np.intp)
    known &= 255
    cos_k, sin_k = _COSINES[known], _SINES[known]
    square = d * d
    sin_d = d + d * square * (square * (square * (-1 / 5040) + 1 / 120) - 1 / 6)
    less = square * (square * (square * (1 / 720) - 1 / 24) + 1 / 2)  # 1 - cos d
    return cos_k - (cos_k * less + sin_k * sin_d), sin_k + (cos_k * sin_d - sin_k * less)
