"""Steps are timed in turns, and compared within rounds."""

from itertools import groupby
from math import inf

import numpy as np
import pytest
from scipy.stats import binom

from antiparallel.benchmarks.speed.measure import (
    CONFIDENCE,
    Ratio,
    Split,
    Timings,
    contenders_of,
    measure,
)


@pytest.fixture
def two(clock, counter):
    return {"plain": counter("plain", clock, (4, 2, 1)), "ss": counter("ss", clock, (5, 3, 1))}


def test_what_is_timed_is_each_contenders_own_call(two, clock):
    timings = measure(two, rounds=7, seed=0, clock=clock)
    assert timings.step == {"plain": (7,) * 7, "ss": (9,) * 7}
    assert timings.gradients == {"plain": (6,) * 3, "ss": (8,) * 3}
    assert timings.forward == {"plain": (4,) * 3, "ss": (5,) * 3}
    assert timings.update == {"plain": (1,) * 3, "ss": (1,) * 3}


def test_a_round_runs_everyones_step_once_and_three_rounds_warm_everything_up(two, clock):
    measure(two, rounds=2, seed=0, clock=clock)
    whole = {(name, part) for name in two for part in ("step", "gradients", "forward", "update")}
    warm, first, second = clock.log[:24], clock.log[24:32], clock.log[32:]
    assert all(set(warm[start : start + 8]) == whole for start in (0, 8, 16))
    assert set(first) == whole
    assert sorted(second) == [("plain", "step"), ("ss", "step")]


def test_the_order_is_random_and_the_seeds_alone(two, clock):
    def order(seed: int) -> list[tuple[str, str]]:
        clock.log.clear()
        measure(two, rounds=40, seed=seed, clock=clock)
        return list(clock.log)

    assert order(1) == order(1) != order(2)
    steps = [name for name, part in order(1) if part == "step"]
    assert 10 < steps[::2].count("plain") < 34  # who comes first in a pair
    assert max(len(list(run)) for _, run in groupby(steps)) <= 2


def test_a_watch_is_told_of_every_round(two, clock):
    told: list[float] = []
    measure(two, rounds=4, seed=0, clock=clock, watch=lambda: told.append(clock()))
    assert len(told) == 7
    assert told == sorted(told)


def test_a_ratio_is_the_median_of_ratios_within_rounds_whatever_all_rounds_suffer():
    slow = np.array([1.0, 10, 1, 100, 1, 1, 1, 1, 1])
    found = Ratio.of(1.5 * slow, slow)
    assert found == pytest.approx((1.5, 1.5, 1.5, 9))


@pytest.mark.parametrize(("n", "place"), [(6, 1), (9, 2), (20, 6), (30, 10), (100, 40)])
def test_the_interval_ends_where_tables_of_the_sign_test_say(n: int, place: int):
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    found = Ratio.of(shuffled, np.ones(n))
    assert found == ((n + 1) / 2, place, n + 1 - place, n)
    outside = 2 * binom.cdf(place - 1, n, 0.5)
    assert outside <= 1 - CONFIDENCE < 2 * binom.cdf(place, n, 0.5)


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    random = np.random.default_rng(0)
    found = [Ratio.of(random.exponential(size=15), random.exponential(size=15)) for _ in range(400)]
    assert np.mean([one.low <= 1 <= one.high for one in found]) > 0.93


def test_few_rounds_have_no_interval_and_no_nan():
    assert Ratio.of([2.0], [1.0]) == (2, 0, inf, 1)
    assert Ratio.of([2.0, 4, 3, 9, 1], [1.0] * 5) == (3, 0, inf, 5)


def test_an_update_is_timed_itself_and_is_no_difference_of_long_times():
    timings = Timings(
        step={"ss": (7.0, 7, 9)},
        gradients={"ss": (8.0,)},
        forward={"ss": (3.0,)},
        update={"ss": (2.0, 1, 3)},
    )
    assert Split.of(timings, "ss") == (3, 5, 2)


def test_the_parts_of_a_step_without_noise_add_up_to_it(two, clock):
    timings = measure(two, rounds=7, seed=0, clock=clock)
    assert Split.of(timings, "ss") == (5, 3, 1)
    assert sum(Split.of(timings, "ss")) == timings.step["ss"][0]


def test_plain_backprop_is_measured_twice_and_a_peer_under_every_rule():
    assert contenders_of(["ss", "fa"], ["biotorch"]) == {
        "plain": "plain",
        "control": "plain",
        "ss": "ss",
        "fa": "fa",
        "biotorch:ss": "biotorch:ss",
        "biotorch:fa": "biotorch:fa",
    }
