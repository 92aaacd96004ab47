"""Chapter L: lambda."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import pytest

from antiparallel.spec import (
    Conv,
    ConvTranspose,
    Dense,
    Feedback,
    Geometry,
    fan_out,
    feedback_scale,
    forward,
)


@pytest.mark.clause("L1", "L2", "L3", "L4")
def test_lambda_comes_out_as_printed(example: Callable[[str], Any]) -> None:
    for row in example("lambda"):
        for scale in ("paper", "reference-code"):
            assert feedback_scale(row["layer"], scale) == pytest.approx(row[scale], rel=1e-15)


@pytest.mark.clause("L4")
def test_the_papers_scale_is_the_default() -> None:
    assert feedback_scale(Dense(4, 100)) == 0.1


@pytest.mark.clause("L4")
@pytest.mark.parametrize("geometry", [Dense(2, 3), Conv(2, 3, (1,))])
def test_a_number_is_that_number(geometry: Geometry) -> None:
    assert feedback_scale(geometry, 3) == 3.0
    assert feedback_scale(geometry, 1e-3) == 1e-3


@pytest.mark.clause("L1", "L2")
@pytest.mark.parametrize(
    "geometry",
    [
        Conv(4, 6, (3,), groups=2),
        Conv(2, 3, (2, 3), dilation=2),
        Conv(2, 2, (2, 1, 2)),
        ConvTranspose(4, 6, (3,), stride=2, groups=2),
        ConvTranspose(2, 3, (3, 2), stride=3),
    ],
)
def test_fan_out_is_the_number_of_outputs_that_one_input_feeds(geometry: Geometry) -> None:
    x = np.zeros((1, geometry.n_in, *[9] * geometry.rank))
    x[(0, 0, *[4] * geometry.rank)] = 1  # far from every border
    fed = np.count_nonzero(forward(geometry, x, np.ones(geometry.weight_shape)))
    assert fan_out(geometry) == fed
    assert feedback_scale(geometry) == sqrt(2 / fed)


@pytest.mark.clause("L5")
@pytest.mark.parametrize("rule", ["ss", "fa-sign"])
def test_sign_symmetric_feedback_has_the_size_lambda(rule: str) -> None:
    geometry = Conv(2, 3, (3,))
    weight = np.random.default_rng(0).normal(size=geometry.weight_shape)
    matrix = Feedback(rule, geometry, weight, scale="paper").matrix(weight)
    assert (np.abs(matrix) == feedback_scale(geometry)).all()


@pytest.mark.clause("L5")
@pytest.mark.parametrize("rule", ["fa", "ss-fixed", "ss-batch"])
def test_drawn_feedback_is_proportional_to_lambda(rule: str) -> None:
    geometry = Dense(4, 8)
    weight = np.random.default_rng(0).normal(size=geometry.weight_shape)
    one = Feedback(rule, geometry, weight, scale=1.0).matrix(weight)
    half = Feedback(rule, geometry, weight, scale=0.5).matrix(weight)
    assert np.array_equal(half, one / 2)
