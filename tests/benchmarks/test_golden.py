"""Every rule's losses are the golden ones; golden.py says what these are and how to renew them."""

import json

import numpy as np
import pytest

# First: TensorFlow, imported before PyTorch, can make PyTorch's import crash.
import antiparallel.benchmarks.steppers.pytorch
from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.stepper import build_stepper

from .conftest import both_backends
from .golden import EPS, PATH, RULES, SEED, UPDATES, curve, recipe, wide_stepper

assert antiparallel.benchmarks.steppers.pytorch

GOLDEN = {
    rule: {name: np.array(numbers) for name, numbers in found.items()}
    for rule, found in json.loads(PATH.read_text()).items()
}
LONGEST_SUM = 50 * 8 * 8
"""Terms in the longest sums: a batch's positions, for a gradient or a mean of a normalisation."""
FINER = float(np.finfo(np.float64).eps) / EPS
EARLY = 3
"""Updates before a rectifier is known to tip over in any float32 run."""
FLOAT32 = EARLY * 9 * LONGEST_SUM**0.5 * EPS
"""Relative. Nine layers in each update; a sum's roundings are as often up as down, so that in
another order it comes out different by about the root of their number."""


def strayed(losses: list[float], rule: str) -> float:
    """Return the largest relative difference from the golden losses in the first updates."""
    golden = GOLDEN[rule]["losses"][:EARLY]
    return float(np.abs(losses[:EARLY] / golden - 1).max())


@pytest.mark.parametrize("rule", RULES)
def test_in_float64_they_are_the_same_numbers(rule: str):
    golden, astray = GOLDEN[rule]["losses"], GOLDEN[rule]["astray"]
    assert len(golden) == UPDATES
    assert golden[-1] < golden[0] / 2
    # As many roundings as the longest sum has, each amplified as the float32 rounding was
    assert (np.abs(curve(wide_stepper(rule)) - golden) <= LONGEST_SUM * FINER * astray).all()


@both_backends
@pytest.mark.parametrize("rule", RULES)
def test_in_float32_they_are_near_and_no_other_rules_are(rule: str, backend: str):
    losses = curve(build_stepper(backend, recipe(rule), SEED, digits()), EARLY)
    assert strayed(losses, rule) <= FLOAT32
    # A rule that forgets what makes it one is another: ss that does not follow W is fa-sign, with
    # its magnitudes drawn once and for all ss-batch is ss-fixed, and whatever uses W is bp.
    for other in RULES:
        if other != rule:
            assert strayed(losses, other) > FLOAT32, other
