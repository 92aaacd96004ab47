"""The training run of the parity checks, and the tolerance that it derives."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from antiparallel.conformance import training
from antiparallel.spec import RULES
from antiparallel.spec.trainer import train


def test_the_digits_are_real_and_unchanged():
    digits = load_digits()
    pixels = np.concatenate([x for x, _ in training.batches("float64")])
    labels = np.concatenate([labels for _, labels in training.batches("float64")])
    rows = np.arange(len(labels)) % 320
    assert np.array_equal(16 * pixels[:, 0], digits.images[rows])
    assert np.array_equal(labels, digits.target[rows])


def test_the_run_is_at_least_200_steps_on_a_network_of_convolutions_and_a_dense_layer():
    assert len(training.batches("float32")) == training.STEPS >= 200
    kinds = [getattr(layer, "geometry", layer) for layer in training.network("fa").layers]
    names = [kind if isinstance(kind, str) else type(kind).__name__ for kind in kinds]
    assert names == ["Conv", "relu", "Conv", "relu", "flatten", "Dense"]


@pytest.mark.parametrize("rule", RULES)
def test_the_reference_learns_under_every_rule(rule):
    losses = training.expected(rule, "float64").run.losses
    assert losses[-20:].mean() < losses[:20].mean() / 2


@pytest.mark.parametrize("rule", RULES)
def test_rules_train_differently_by_far_more_than_the_tolerance(rule):
    expected = training.expected(rule, "float64")
    for other in set(RULES) - {rule}:
        apart = abs(training.expected(other, "float64").run.losses - expected.run.losses)
        assert apart.max() > 1e6 * expected.losses.max()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_unperturbed_run_is_the_references_own(dtype):
    found = training.reference_run("ss", dtype)
    config, batches = training.CONFIG, training.batches(dtype)
    exact = train(training.network("ss"), batches, config, seed=training.SEED)
    assert np.array_equal(found.losses, exact.losses)
    for one, other in zip(found.weights + found.biases, exact.weights + exact.biases, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("rule", RULES)
def test_tolerances_are_of_the_size_of_rounding(rule):
    double, single = (training.expected(rule, dtype) for dtype in ("float64", "float32"))
    assert double.losses.max() < 1e-11
    assert single.losses[0] < 1e-4
    assert single.losses.max() < 0.1
    assert np.all(np.diff(double.losses) > -1e-13)
