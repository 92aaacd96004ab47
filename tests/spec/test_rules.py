"""Chapter R: the feedback matrix of each rule, and how it goes on through training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from antiparallel.spec import (
    ALIASES,
    RULES,
    Conv,
    ConvTranspose,
    Dense,
    Feedback,
    Geometry,
    Purpose,
    as_rule,
    draw,
    feedback_scale,
)
from antiparallel.spec.contract import Array
from antiparallel.spec.reference import backend

GEOMETRIES = [Dense(3, 4), Conv(4, 2, (3, 2), groups=2), ConvTranspose(2, 3, (3,), stride=2)]
every_rule = pytest.mark.parametrize("rule", RULES)
every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def weights(geometry: Geometry, seed: int, dtype: Any = np.float64) -> Array:
    weight = np.random.default_rng(seed).normal(size=geometry.weight_shape).astype(dtype)
    weight.flat[0], weight.flat[1] = 0.0, -0.0
    return weight


def drawn(geometry: Geometry, purpose: Purpose, count: int = 0) -> Array:
    scale = feedback_scale(geometry)
    return draw(geometry, scale, seed=5, index=2, purpose=purpose, count=count)


@every_geometry
@every_dtype
@pytest.mark.clause("R1")
def test_bp_feeds_back_through_w(geometry: Geometry, dtype: Any) -> None:
    feedback = Feedback("bp", geometry, weights(geometry, 0, dtype))
    now = weights(geometry, 1, dtype)
    assert np.array_equal(feedback.matrix(now), now)


@every_geometry
@every_dtype
@pytest.mark.clause("R2", "R10")
def test_ss_follows_the_sign_of_w_at_every_step(geometry: Geometry, dtype: Any) -> None:
    feedback = Feedback("ss", geometry, weights(geometry, 0, dtype))
    scale = dtype(feedback_scale(geometry))
    for step in range(3):
        now = weights(geometry, step, dtype)
        matrix = feedback.matrix(now)
        assert matrix.dtype == dtype
        assert np.array_equal(matrix, np.where(now > 0, scale, np.where(now < 0, -scale, 0)))
        feedback.advance()


@every_geometry
@every_dtype
@pytest.mark.clause("R3", "R10")
def test_ss_fixed_keeps_its_magnitudes_and_follows_the_sign_of_w(
    geometry: Geometry, dtype: Any
) -> None:
    feedback = Feedback("ss-fixed", geometry, weights(geometry, 0, dtype), seed=5, index=2)
    magnitude = np.abs(drawn(geometry, Purpose.FEEDBACK)).astype(dtype)
    for step in range(3):
        now = weights(geometry, step, dtype)
        assert np.array_equal(feedback.matrix(now), magnitude * np.sign(now))
        feedback.advance()


@every_geometry
@every_dtype
@pytest.mark.clause("R4", "R10")
def test_ss_batch_draws_magnitudes_anew_at_every_backward_pass(
    geometry: Geometry, dtype: Any
) -> None:
    feedback = Feedback("ss-batch", geometry, weights(geometry, 0, dtype), seed=5, index=2)
    for step in range(3):
        now = weights(geometry, step, dtype)
        magnitude = np.abs(drawn(geometry, Purpose.BATCH_MAGNITUDE, step)).astype(dtype)
        for _ in range(2):  # looking does not count
            assert np.array_equal(feedback.matrix(now), magnitude * np.sign(now))
        feedback.advance()


@every_geometry
@every_dtype
@pytest.mark.clause("R5", "R10")
def test_fa_never_changes(geometry: Geometry, dtype: Any) -> None:
    feedback = Feedback("fa", geometry, weights(geometry, 0, dtype), seed=5, index=2)
    for step in range(3):
        matrix = feedback.matrix(weights(geometry, step, dtype))
        assert np.array_equal(matrix, drawn(geometry, Purpose.FEEDBACK).astype(dtype))
        feedback.advance()


@every_geometry
@every_dtype
@pytest.mark.clause("R6", "R10")
def test_fa_sign_keeps_the_signs_of_the_first_weights(geometry: Geometry, dtype: Any) -> None:
    first = weights(geometry, 0, dtype)
    expected = dtype(feedback_scale(geometry)) * np.sign(first)
    feedback = Feedback("fa-sign", geometry, first)
    for step in range(3):
        assert np.array_equal(feedback.matrix(weights(geometry, step, dtype)), expected)
        feedback.advance()


@pytest.mark.parametrize("rule", ["ss", "ss-fixed", "ss-batch"])
@pytest.mark.clause("R7")
def test_zeros_send_nothing_back_and_nan_is_not_hidden(rule: str) -> None:
    tiny = np.finfo(np.float64).smallest_subnormal
    weight = np.array([[0.0, -0.0], [np.nan, -tiny]])
    matrix = Feedback(rule, Dense(2, 2), weight).matrix(weight)
    assert matrix[0].tolist() == [0, 0]
    assert np.isnan(matrix[1, 0])
    assert matrix[1, 1] < 0


@pytest.mark.clause("R1", "R2", "R6")
def test_the_worked_example_comes_out_as_printed(example: Callable[[str], Any]) -> None:
    printed = example("rules")
    first, later = np.array(printed["W0"], float), np.array(printed["W1"], float)
    arguments = {key: printed[key] for key in ("seed", "index", "scale")}
    for row in printed["B"]:
        feedback = Feedback(row["rule"], printed["layer"], first, **arguments)
        assert feedback.matrix(first).tolist() == row["W0"]
        assert feedback.matrix(later).tolist() == row["W1"]


@every_rule
@pytest.mark.clause("R8")
def test_a_layer_restored_from_a_checkpoint_goes_on_as_the_first_one(rule: str) -> None:
    geometry = Dense(3, 4)
    arguments = {"rule": rule, "seed": 5, "index": 2}
    one = backend.layer(geometry, weights(geometry, 0), np.ones(4), **arguments)
    x, error = np.ones((2, 3)), np.ones((2, 4))
    for step in range(3):
        one.backward(x, error)
        one.set_weight(weights(geometry, step + 1))
    other = backend.layer(geometry, weights(geometry, 9), np.zeros(4), **arguments)
    other.load_state(one.state())
    for step in range(2):
        assert np.array_equal(one.forward(x), other.forward(x))
        assert np.array_equal(one.feedback(), other.feedback())
        for got, expected in zip(other.backward(x, error), one.backward(x, error), strict=True):
            assert np.array_equal(got, expected)
        one.set_weight(weights(geometry, step + 5))
        other.set_weight(weights(geometry, step + 5))


@every_rule
@pytest.mark.clause("R8")
def test_a_checkpoint_holds_only_what_the_rule_needs(rule: str) -> None:
    kept = {"ss-fixed": {"magnitude"}, "ss-batch": {"count"}}
    kept |= {"fa": {"feedback"}, "fa-sign": {"feedback"}}
    layer = backend.layer(Dense(2, 2), np.ones((2, 2)), None, rule)
    assert layer.state().keys() - {"weight"} == kept.get(rule, set())


@every_rule
@pytest.mark.clause("R4")
def test_a_layer_uses_the_feedback_that_it_shows(rule: str) -> None:
    geometry = Dense(3, 4)
    layer = backend.layer(geometry, weights(geometry, 0), None, rule, seed=5)
    error = np.random.default_rng(1).normal(size=(2, 4))
    seen = []
    for _ in range(3):
        layer.forward(np.ones((2, 3)))  # does not count
        shown = layer.feedback()
        sent = layer.backward(np.ones((2, 3)), error).input
        np.testing.assert_array_equal(sent, error @ shown)
        seen.append(shown)
    assert (rule == "ss-batch") == (not np.array_equal(seen[0], seen[1]))


@pytest.mark.clause("R9")
def test_aliases_stand_for_the_rules_that_the_text_says() -> None:
    for alias, name in ALIASES.items():
        assert as_rule(alias) is RULES[name]
    for name, rule in RULES.items():
        assert rule.name == name
        assert as_rule(rule) is rule
