"""Chapter O: SGD with Batch Manhattan and sign-preserving updates."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from antiparallel.spec import SGD, SGDConfig
from antiparallel.spec.contract import Array
from antiparallel.spec.sgd import keep_signs, sign_bound


def steps(config: SGDConfig, p: Array, gradients: list[Array], bias: bool = False) -> list[Array]:
    optimizer = SGD(config, {"p": p}, ["p"] if bias else [])
    return [optimizer.step({"p": gradient})["p"] for gradient in gradients]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.clause("O1", "O2", "O3", "O4", "O5", "O6", "O8")
def test_the_worked_examples_come_out_as_printed(
    example: Callable[[str], Any], dtype: type[np.floating]
) -> None:
    for row in example("sgd"):
        gradients = [np.array(gradient, dtype) for gradient in row["gradients"]]
        p = np.array(row["p"], dtype)
        after = steps(SGDConfig(**row["config"]), p, gradients, row.get("bias", False))
        for got, printed in zip(after, row["after"], strict=True):
            assert got.dtype == dtype
            # -0.001 is used for its sign only, and 1e-10 is rounded: the rest is exact.
            assert got.tolist() == np.array(printed, dtype).tolist()


@pytest.mark.clause("O1", "O2", "O8")
def test_batch_manhattan_and_weight_decay_apply_to_biases_as_to_weights() -> None:
    config = SGDConfig(lr=0.5, weight_decay=0.25, batch_manhattan=True)
    p, gradients = np.array([4.0, -2.0]), [np.array([0.3, -7.0])]
    assert np.array_equal(steps(config, p, gradients, bias=True), steps(config, p, gradients))


@pytest.mark.clause("O1")
def test_the_sign_is_taken_before_weight_decay() -> None:
    # After weight decay the sign would be that of -0.1 + 0.25 * 4.
    (after,) = steps(
        SGDConfig(1.0, weight_decay=0.25, batch_manhattan=True), np.array([4.0]), [np.array([-0.1])]
    )
    assert after.tolist() == [4.0]


@pytest.mark.clause("O3")
def test_momentum_is_the_geometric_sum_of_past_gradients() -> None:
    # Small integers and powers of two: exact in any order.
    gradients = list(np.random.default_rng(0).integers(-9, 10, (6, 5)).astype(float))
    after = steps(SGDConfig(lr=0.25, momentum=0.5), np.zeros(5), gradients)[-1]
    weighed = [g * sum(0.5**k for k in range(6 - step)) for step, g in enumerate(gradients)]
    assert np.array_equal(after, -0.25 * np.sum(weighed, axis=0))


@pytest.mark.clause("O6")
def test_kept_signs_never_change_and_nan_stays() -> None:
    generator = np.random.default_rng(0)
    p = generator.normal(size=100)
    gradients = list(generator.normal(size=(20, 100)))
    for after in steps(SGDConfig(lr=1.0, momentum=0.9, keep_signs=True), p, gradients):
        assert np.array_equal(np.sign(after), np.sign(p))
        assert (np.abs(after) >= 1e-10).all()
    kept = keep_signs(np.array([1.0, np.nan]), np.array([np.nan, np.nan]))
    assert np.isnan(kept).all()


@pytest.mark.clause("O6")
def test_stopping_at_zero_leaves_the_velocity_alone() -> None:
    config = {"lr": 1.0, "momentum": 0.5}
    p, gradients = np.array([0.5]), [np.array([1.0]), np.array([-1.0])]
    stopped = steps(SGDConfig(**config, keep_signs=True), p, gradients)
    # v = 1, then 0.5 - 1 = -0.5: from 1e-10 the second step leads to 1e-10 + 0.5.
    assert stopped[0].tolist() == [1e-10]
    assert stopped[1].tolist() == [1e-10 + 0.5]


@pytest.mark.clause("O7")
def test_a_bound_that_underflows_gives_way_to_the_smallest_normal_number() -> None:
    assert sign_bound(np.dtype(np.float32)) == sign_bound(np.dtype(np.float64)) == 1e-10
    assert sign_bound(np.dtype(np.float16)) == 2.0**-14
    kept = keep_signs(np.array([-0.5], np.float16), np.array([1], np.float16))
    assert kept.dtype == np.float16
    assert kept.tolist() == [-(2.0**-14)]


@pytest.mark.clause("O9")
def test_a_parameter_without_gradient_keeps_value_and_velocity() -> None:
    config = SGDConfig(lr=1.0, momentum=0.5)
    optimizer = SGD(config, {"a": np.zeros(1), "b": np.zeros(1)})
    optimizer.step({"a": np.ones(1), "b": np.ones(1)})
    assert optimizer.step({"a": np.ones(1)})["b"].tolist() == [-1.0]
    # b's velocity is still 1: the next step is 0.5 + 1.
    assert optimizer.step({"b": np.ones(1)})["b"].tolist() == [-2.5]


@pytest.mark.clause("O5")
def test_arrays_that_went_in_or_came_out_are_not_the_optimizers_own() -> None:
    p = np.ones(2)
    optimizer = SGD(SGDConfig(lr=1.0), {"p": p})
    optimizer.step({"p": np.ones(2)})["p"][:] = 7
    assert p.tolist() == [1, 1]
    assert optimizer.step({"p": np.zeros(2)})["p"].tolist() == [0, 0]
