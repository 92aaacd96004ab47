"""Chapter T: the trainer that training parity compares with."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from antiparallel.spec import (
    RULES,
    SGD,
    Conv,
    ConvTranspose,
    Dense,
    Feedback,
    SGDConfig,
    SignSymmetry,
    backward,
    forward,
    initial_weight,
    train,
)
from antiparallel.spec.contract import Array, Network, Weighted
from antiparallel.spec.trainer import Model, softmax_cross_entropy

Batch = tuple[Array, np.ndarray[Any, np.dtype[np.int64]]]


def network(rule: str) -> Network:
    layers = [Conv(1, 3, (3, 3), padding="same"), ConvTranspose(3, 2, (2, 2), stride=2)]
    first, second = (Weighted(layer, RULES[rule]) for layer in layers)
    return Network((first, "relu", second, "relu", "flatten", Weighted(Dense(128, 3), RULES[rule])))


def batches(count: int, dtype: Any = np.float64) -> list[Batch]:
    """Pictures of three classes: which third of the rows is bright."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        labels = generator.integers(0, 3, 8)
        x = 0.1 * generator.normal(size=(8, 1, 4, 4))
        x[np.arange(8), 0, labels] += 1
        made.append((x.astype(dtype), labels))
    return made


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.clause("T1", "T5")
def test_every_rule_learns(rule: str, dtype: Any) -> None:
    trajectory = train(network(rule), batches(200, dtype), SGDConfig(0.05, momentum=0.5), seed=1)
    assert trajectory.losses.dtype == np.float64
    assert trajectory.weights[0].dtype == dtype
    assert trajectory.losses[0] > 0.8
    assert trajectory.losses[-10:].mean() < 0.25


@pytest.mark.clause("T2", "T3", "T4", "R1")
def test_under_bp_gradients_agree_with_finite_differences_of_the_loss() -> None:
    model = Model(network("bp"), np.dtype(np.float64), seed=3)
    generator = np.random.default_rng(0)
    for bias in model.parameters[1::2]:  # away from zero, where a rectifier has no derivative
        bias += generator.normal(size=bias.shape)
    ((x, labels),) = batches(1)
    _, gradients = model.loss_and_gradients(x, labels)
    step = 1e-6
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        for place in generator.choice(parameter.size, min(parameter.size, 20)):
            losses = []
            for sign in (1, -1):
                parameter.flat[place] += sign * step
                losses.append(model.loss_and_gradients(x, labels)[0])
                parameter.flat[place] -= sign * step
            difference = (losses[0] - losses[1]) / (2 * step)
            # The rounding of a loss near 1 made of some hundred operations, over the step; the
            # error of truncation is step**2.
            rounding = 100 * np.finfo(np.float64).eps / step
            assert abs(gradient.flat[place] - difference) <= rounding


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.clause("T1", "T4", "T5", "F2")
def test_training_is_initialise_forward_backward_update(rule: str) -> None:
    layer, scale = Dense(4, 3), 0.5
    config = SGDConfig(lr=0.1, momentum=0.5, weight_decay=0.01)
    chain = Network(
        ("flatten", Weighted(layer, RULES[rule]), "relu", Weighted(Dense(3, 3), RULES[rule], scale))
    )
    given = [(x[:, :, :2, :2], labels) for x, labels in batches(4)]
    found = train(chain, given, config, seed=9)

    float64 = np.dtype(np.float64)
    w0 = initial_weight(layer, float64, seed=9, index=0)
    w1 = initial_weight(Dense(3, 3), float64, scale=scale, seed=9, index=1)
    feedback = Feedback(rule, Dense(3, 3), w1, scale=scale, seed=9, index=1)
    p = {"w0": w0, "b0": np.zeros(3), "w1": w1, "b1": np.zeros(3)}
    optimizer = SGD(config, p, ["b0", "b1"])
    for step, (x, labels) in enumerate(given):
        flat = x.reshape(8, 4)
        hidden = forward(layer, flat, p["w0"], p["b0"])
        rectified = np.where(hidden > 0, hidden, 0)
        loss, error = softmax_cross_entropy(
            forward(Dense(3, 3), rectified, p["w1"], p["b1"]), labels
        )
        assert found.losses[step] == loss
        upper = backward(Dense(3, 3), rectified, error, feedback.matrix(p["w1"]))
        feedback.advance()
        # The first layer's B carries nothing that anyone uses.
        lower = backward(layer, flat, upper.input * (hidden > 0), p["w0"])
        p = optimizer.step(
            {"w0": lower.weight, "b0": lower.bias, "w1": upper.weight, "b1": upper.bias}
        )
    assert np.array_equal(found.weights[0], p["w0"])
    assert np.array_equal(found.weights[1], p["w1"])
    assert np.array_equal(found.biases[0], p["b0"])
    assert np.array_equal(found.biases[1], p["b1"])


@pytest.mark.clause("T2")
def test_the_printed_loss_comes_out(example: Callable[[str], Any]) -> None:
    printed = example("loss")
    loss, error = softmax_cross_entropy(np.array(printed["z"], float), np.array(printed["labels"]))
    assert loss == pytest.approx(printed["loss"], rel=1e-15)
    np.testing.assert_allclose(error, printed["error"], rtol=1e-15)


@pytest.mark.clause("T2")
def test_large_logits_do_not_overflow() -> None:
    loss, error = softmax_cross_entropy(np.array([[1e5, 0.0]]), np.array([1]))
    assert loss == 1e5
    assert error.tolist() == [[1.0, -1.0]]


@pytest.mark.clause("T3")
def test_relu_passes_no_error_where_its_input_is_zero() -> None:
    chain = Network(("relu", Weighted(Dense(2, 2), SignSymmetry())))
    layers = Network((Weighted(Dense(2, 2), SignSymmetry()), *chain.layers))
    # With zero inputs and zero biases everything that enters the rectifier is zero.
    found = train(layers, [(np.zeros((2, 2)), np.array([0, 0]))], SGDConfig(lr=1.0))
    assert not found.biases[0].any()
    assert found.biases[1].any()


@pytest.mark.clause("T5")
def test_losses_are_those_before_each_update() -> None:
    given = batches(2)
    still = train(network("ss"), given, SGDConfig(lr=0.0))
    moved = train(network("ss"), given, SGDConfig(lr=0.1))
    assert still.losses[0] == moved.losses[0]
    assert still.losses[1] != moved.losses[1]


def test_training_twice_gives_the_same_bits() -> None:
    one, two = (train(network("ss-batch"), batches(5), SGDConfig(0.1), seed=4) for _ in range(2))
    assert np.array_equal(one.losses, two.losses)
    assert all(map(np.array_equal, one.weights, two.weights))
