"""Chapters D and I: the numbers, from the generator's words to initial weights."""

from collections.abc import Callable
from math import cos, log, pi, prod, sin, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiparallel.spec import (
    Conv,
    ConvTranspose,
    Dense,
    Geometry,
    Purpose,
    SpecError,
    draw,
    feedback_scale,
    initial_bias,
    initial_weight,
)
from antiparallel.spec.contract import Array
from antiparallel.spec.draws import rounded

WORD = 2**64
argument = st.one_of(st.integers(0, 3), st.integers(0, WORD - 1))


def philox(seed: int, index: int, purpose: int, count: int, words: int) -> list[int]:
    """D3 in plain integers."""
    found: list[int] = []
    block = 1
    while len(found) < words:
        c, k = (block, count, purpose, 0), (seed, index)
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = (b >> 64 ^ c[1] ^ k[0], b % WORD, a >> 64 ^ c[3] ^ k[1], a % WORD)
            k = ((k[0] + 0x9E3779B97F4A7C15) % WORD, (k[1] + 0xBB67AE8584CAA73B) % WORD)
        found += c
        block += 1
    return found[:words]


def numbers(geometry: Geometry, scale: float, words: list[int]) -> list[float]:
    """D4 to D7 in plain floats."""
    units = [(word >> 11) / 2**53 for word in words]
    size = prod(geometry.weight_shape)
    if isinstance(geometry, Dense):
        return [(2 * u - 1) * scale for u in units[:size]]
    normal: list[float] = []
    for u0, u1 in zip(units[0::2], units[1::2], strict=True):
        radius, angle = sqrt(-2 * log(1 - u0)), 2 * pi * u1
        normal += [radius * cos(angle) * scale, radius * sin(angle) * scale]
    return normal[:size]


@settings(deadline=None, max_examples=50)
@given(argument, argument, st.sampled_from(Purpose), argument)
@pytest.mark.clause("D1", "D3", "D4", "D5", "D6", "D7", "D8")
def test_draws_are_the_plain_integer_philox_and_box_muller(
    seed: int, index: int, purpose: Purpose, count: int
) -> None:
    where = {"seed": seed, "index": index, "purpose": purpose, "count": count}
    words = philox(words=32, **where)
    for geometry in (Dense(3, 5), Conv(4, 3, (5,), groups=4 // 4), ConvTranspose(2, 3, (1, 3))):
        expected = numbers(
            geometry, 0.3, words if prod(geometry.weight_shape) < 32 else philox(words=64, **where)
        )
        drawn = draw(geometry, 0.3, **where)
        assert drawn.shape == geometry.weight_shape
        tolerance = 0 if isinstance(geometry, Dense) else 1e-14
        np.testing.assert_allclose(drawn.ravel(), expected, rtol=tolerance)


@pytest.mark.clause("D6", "D8")
def test_millions_of_numbers_are_box_mullers_by_numpys_own_sine_and_cosine() -> None:
    geometry = Conv(512, 512, (3, 3))
    generator = np.random.Philox(key=[5, 6], counter=[0, 7, Purpose.BATCH_MAGNITUDE, 0])
    units = (generator.random_raw(prod(geometry.weight_shape)) >> np.uint64(11)) / 2**53
    radius, angle = np.sqrt(-2 * np.log(1 - units[0::2])), 2 * pi * units[1::2]
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    drawn = draw(geometry, 1.0, seed=5, index=6, purpose=Purpose.BATCH_MAGNITUDE, count=7)
    # On either side logarithm, root, sine or cosine and their product, each to its last places
    np.testing.assert_allclose(drawn.ravel(), expected.ravel(), rtol=6 * 2.0**-52)


@pytest.mark.clause("D3", "D4", "D5", "D6", "D8")
def test_the_printed_draws_are_drawn(example: Callable[[str], Any]) -> None:
    for row in example("draws"):
        purpose = Purpose[row["purpose"]]
        where = {"seed": row["seed"], "index": row["index"], "count": row["count"]}
        words = philox(purpose=purpose, words=8, **where)
        assert [f"{word:016x}" for word in words] == row["words"]
        dense = draw(Dense(2, 2), 1.0, purpose=purpose, **where)
        assert dense.ravel().tolist() == row["dense"]
        convolution = draw(Conv(1, 1, (4,)), 1.0, purpose=purpose, **where)
        np.testing.assert_allclose(convolution.ravel(), row["convolution"], rtol=1e-14)


@pytest.mark.parametrize("size", [2**14 - 1, 2**14, 2**14 + 1, 2**18, 2**18 + 5])
@pytest.mark.clause("D3", "D6")
def test_long_draws_go_on_where_short_ones_end(size: int) -> None:
    # Long draws are made in chunks of 2**13 numbers, by threads of 2**18; the seams must not show.
    where = {"seed": 3, "index": 1, "purpose": Purpose.FEEDBACK}
    for make in (lambda n: Dense(n, 1), lambda n: Conv(n, 1, (1,))):
        long = draw(make(size), 1.0, **where).ravel()
        assert long.size == size
        expected = numbers(make(size), 1.0, philox(3, 1, Purpose.FEEDBACK, 0, size + size % 2))
        np.testing.assert_allclose(long, expected, rtol=1e-14)


@pytest.mark.clause("D9")
def test_draws_of_equal_arguments_start_alike_whatever_the_shape() -> None:
    where = {"seed": 3, "index": 1, "purpose": Purpose.FEEDBACK}
    long, short = draw(Dense(7, 3), 1.0, **where), draw(Dense(2, 2), 1.0, **where)
    assert np.array_equal(long.ravel()[:4], short.ravel())


@pytest.mark.clause("D9")
def test_draws_that_differ_in_one_argument_are_uncorrelated() -> None:
    geometry = Conv(64, 64, (3, 3))
    size = prod(geometry.weight_shape)
    start = {"seed": 1, "index": 1, "purpose": Purpose.FEEDBACK, "count": 1}
    changes = [{}, {"seed": 2}, {"index": 2}, {"purpose": Purpose.WEIGHT}, {"count": 2}]
    drawn = [draw(geometry, 1.0, **(start | change)).ravel() for change in changes]
    correlations = np.corrcoef(drawn)
    assert np.abs(correlations - np.eye(len(drawn))).max() < 5 / sqrt(size)


@pytest.mark.clause("D1")
def test_seed_and_index_are_not_exchanged() -> None:
    one = draw(Dense(2, 2), 1.0, seed=1, index=2, purpose=Purpose.WEIGHT)
    other = draw(Dense(2, 2), 1.0, seed=2, index=1, purpose=Purpose.WEIGHT)
    assert not np.array_equal(one, other)


@pytest.mark.clause("D6", "I1")
@pytest.mark.parametrize("geometry", [Conv(64, 64, (3, 3)), ConvTranspose(64, 64, (3, 3))])
def test_convolutions_are_drawn_from_a_normal_distribution(geometry: Geometry) -> None:
    z = draw(geometry, 1.0, seed=0, index=0, purpose=Purpose.WEIGHT).ravel()
    # Five standard errors of the mean, the variance, and the fourth moment of N(0, 1).
    error = 5 / sqrt(z.size)
    assert abs(z.mean()) < error
    assert abs(z.var() - 1) < error * sqrt(2)
    assert abs((z**4).mean() - 3) < error * sqrt(96)


@pytest.mark.clause("D5", "I1")
def test_dense_layers_are_drawn_from_a_uniform_distribution() -> None:
    z = draw(Dense(200, 200), 1.0, seed=0, index=0, purpose=Purpose.WEIGHT).ravel()
    error = 5 / sqrt(z.size)
    assert -1 <= z.min() < -0.999
    assert 0.999 < z.max() < 1
    assert abs(z.mean()) < error * sqrt(1 / 3)
    assert abs((z**2).mean() - 1 / 3) < error * sqrt(1 / 5 - 1 / 9)


@pytest.mark.parametrize("scale", ["paper", "reference-code", 0.125])
@pytest.mark.parametrize("geometry", [Dense(5, 4), Conv(4, 6, (3,), groups=2)])
@pytest.mark.clause("I1", "L5", "D2")
def test_initial_weights_are_the_weight_draw_times_lambda(geometry: Geometry, scale: Any) -> None:
    lam = feedback_scale(geometry, scale)
    unit = draw(geometry, 1.0, seed=4, index=2, purpose=Purpose.WEIGHT)
    for dtype in (np.float32, np.float64):
        weight = initial_weight(geometry, np.dtype(dtype), scale=scale, seed=4, index=2)
        assert weight.dtype == dtype
        assert np.array_equal(weight, (unit * lam).astype(dtype))


@pytest.mark.clause("I2")
def test_biases_start_at_zero() -> None:
    bias = initial_bias(Conv(2, 3, (1,)), np.dtype(np.float32))
    assert bias.dtype == np.float32
    assert bias.tolist() == [0, 0, 0]


@pytest.mark.clause("R10", "I1")
def test_narrow_dtypes_are_rounded_by_way_of_float32() -> None:
    # Just above the middle of two float16 neighbours, but not so in float32, where it is a tie.
    value = np.array([1 + 2.0**-11 + 2.0**-40])
    assert rounded(value, np.dtype(np.float16)) == 1
    assert value.astype(np.float16) == 1 + 2.0**-10
    assert rounded(value, np.dtype(np.float32)) == np.float32(value[0])


@pytest.mark.clause("R10", "I1")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_draw_of_any_floating_dtype_is_the_rounded_one(dtype: Any) -> None:
    where: dict[str, Any] = {"seed": 0, "index": 0, "purpose": Purpose.FEEDBACK}
    exact = draw(Conv(256, 256, (3, 3)), 0.02, **where)
    found = draw(Conv(256, 256, (3, 3)), 0.02, **where, dtype=dtype)
    assert found.dtype == dtype
    assert np.array_equal(found, rounded(exact, np.dtype(dtype)))


@pytest.mark.parametrize("dtype", ["int32", "complex128", object])
def test_a_draw_in_another_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(SpecError, match=r"Expected a floating dtype\. Received: dtype="):
        draw(Dense(2, 2), 1.0, seed=0, index=0, purpose=Purpose.WEIGHT, dtype=dtype)


def test_a_draw_can_be_changed_without_changing_the_next_one() -> None:
    first: Array = draw(Dense(2, 2), 1.0, seed=0, index=0, purpose=Purpose.WEIGHT)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(draw(Dense(2, 2), 1.0, seed=0, index=0, purpose=Purpose.WEIGHT), kept)
