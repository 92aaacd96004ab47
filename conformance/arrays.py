"""The arrays that cases are made of: awkward numbers, awkward memory."""

from typing import Literal, TypeAlias

import numpy as np

from antiparallel.spec.contract import Array

Dtype: TypeAlias = Literal["float32", "float64"]
Values: TypeAlias = Literal["normal", "zeros", "ties", "subnormal", "tiny", "huge"]
Memory: TypeAlias = Literal["C", "F", "strided", "reversed", "read-only"]


def numbers(
    shape: tuple[int, ...], dtype: Dtype, *, values: Values, memory: Memory, seed: int
) -> Array:
    """Return an array of one kind of numbers, laid out in memory in one way.

    Args:
        shape: Its shape.
        dtype: Its dtype.
        values: ``"normal"``; ``"zeros"``: a half are exact zeros of either sign; ``"ties"``: +-0.5;
            ``"subnormal"``; ``"tiny"``: about 1e-30; ``"huge"``: about 1e30, so that a few
            products with normal numbers still fit float32.
        memory: ``"C"`` or ``"F"`` order, every second element of a larger array, negative strides,
            or an array that must not be written to.
        seed: Of the generator that draws the numbers.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.standard_normal(shape)
    match values:
        case "zeros":
            drawn = drawn * generator.integers(0, 2, shape)
        case "ties":
            drawn = np.where(drawn < 0, -0.5, 0.5)
        case "subnormal":
            drawn = np.trunc(drawn * 1000) * float(np.finfo(dtype).smallest_subnormal)
        case "tiny":
            drawn = drawn * 1e-30
        case "huge":
            drawn = drawn * 1e30
    return _lay_out(np.asarray(drawn, dtype), memory)


def _lay_out(array: Array, memory: Memory) -> Array:
    match memory:
        case "F":
            return np.asfortranarray(array)
        case "strided":
            larger = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
            larger[..., ::2] = array
            return larger[..., ::2]
        case "reversed":
            return np.flip(np.flip(array).copy())
        case "read-only":
            array.flags.writeable = False
    return array
