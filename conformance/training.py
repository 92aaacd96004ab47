"""The training run that a backend must follow, and how far rounding may lead it astray.

A small network learns real digits for 200 steps. Two correct implementations of it differ by
rounding, and training amplifies the difference in a way that no formula gives: where a unit or a
weight passes zero, the derivative of ReLU or the sign of the weight jumps. The reference
therefore measures the amplification on itself. It trains again with the factors of all products
perturbed: at every step weights, inputs and gradients are off by a random relative
``A = (m + 2) eps`` at most, m being the longest sum in the network. Clause N7 allows a sum to be
off by ``(m + 2) eps sum |a| |b|``; m independent perturbations of size A move it by about
``A / sqrt(m) sum |a| |b|``, which is ``sqrt(m) eps``, what summing one by one gives in practice
(Higham and Mary, 2019). What the losses and the weights of some such runs differ by from those
of the unperturbed run, plus N7's bound for the loss itself, is the tolerance.

Measured on one machine over the six rules: in float64 losses may differ by 1.2e-14 at the first
step and by at most 3.8e-13 at the last. In float32 the tolerance is 6.5e-6 at the first step, at
most 9.2e-5 until a perturbed run meets a jump, and up to 6e-2 after it, while the loss falls from
2.3 to between 0.2 and 0.4: float64 is what decides.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiparallel.conformance import tolerance
from antiparallel.conformance.arrays import Dtype
from antiparallel.spec import RULES, Conv, Dense
from antiparallel.spec.contract import Array, Network, SGDConfig, Trajectory, Weighted
from antiparallel.spec.sgd import SGD
from antiparallel.spec.trainer import Model

Batch = tuple[Array, NDArray[np.int64]]

STEPS = 200
SEED = 3
CONFIG = SGDConfig(lr=0.01, momentum=0.9, weight_decay=1e-4)

_BATCH = 16
_PERTURBED_RUNS = 4
_LONGEST_SUM = _BATCH * 3 * 3  # dE/dW of a convolution: over the batch and 3 x 3 places


def network(rule: str) -> Network:
    """Return two convolutions and a dense layer, all under one rule."""
    layers = (Conv(1, 4, (3, 3), stride=2), Conv(4, 8, (3, 3), padding=1), Dense(8 * 3 * 3, 10))
    first, second, last = (Weighted(geometry, RULES[rule]) for geometry in layers)
    return Network((first, "relu", second, "relu", "flatten", last))


def batches(dtype: Dtype) -> list[Batch]:
    """Return a batch of 16 digits, ``(16, 1, 8, 8)`` from 0 to 1, for each step."""
    with files("antiparallel.conformance").joinpath("digits.csv").open(encoding="utf-8") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    pixels = (table[:, 1:].reshape(-1, 1, 8, 8) / 16).astype(dtype)
    picked = [np.arange(step * _BATCH, (step + 1) * _BATCH) % len(table) for step in range(STEPS)]
    return [(pixels[rows], table[rows, 0]) for rows in picked]


class ExpectedTrajectory(NamedTuple):
    """The reference's training run.

    Args:
        run: What it yielded.
        losses: How far each step's loss may be off, ``(steps,)``.
        weights: How far a weight may be off at the end, layer by layer.
        biases: The same for biases.
    """

    run: Trajectory
    losses: Array
    weights: tuple[float, ...]
    biases: tuple[float, ...]


@cache
def expected(rule: str, dtype: Dtype) -> ExpectedTrajectory:
    """Return the reference's run under a rule, with the tolerance that its dtype explains."""
    amplitude = (_LONGEST_SUM + 2) * float(np.finfo(dtype).eps)
    run = reference_run(rule, dtype)
    others = [reference_run(rule, dtype, amplitude, n) for n in range(_PERTURBED_RUNS)]
    off = np.max([abs(other.losses - run.losses) for other in others], axis=0)
    rounding = tolerance.of_sum(dtype, _BATCH, run.losses)
    return ExpectedTrajectory(
        run,
        losses=np.maximum.accumulate(off) + rounding,
        weights=_largest_differences(run.weights, [other.weights for other in others]),
        biases=_largest_differences(run.biases, [other.biases for other in others]),
    )


def reference_run(rule: str, dtype: Dtype, amplitude: float = 0.0, noise: int = 0) -> Trajectory:
    """Train the reference, its products perturbed.

    Args:
        rule: The rule of every layer.
        dtype: In which it trains.
        amplitude: Largest relative perturbation; 0 gives what ``spec.trainer.train`` gives.
        noise: Seed of the perturbation.
    """
    generator = np.random.default_rng(noise)

    def perturbed(array: Array) -> Array:
        factor = 1 + amplitude * generator.uniform(-1, 1, array.shape)
        return (array * factor).astype(array.dtype)

    model = Model(network(rule), np.dtype(dtype), SEED)
    names = [str(number) for number in range(len(model.parameters))]
    optimizer = SGD(CONFIG, dict(zip(names, model.parameters, strict=True)))
    losses = []
    for x, labels in batches(dtype):
        exact = model.parameters
        model.parameters = [perturbed(array) for array in exact]
        loss, gradients = model.loss_and_gradients(perturbed(x), labels)
        noisy = {name: perturbed(g) for name, g in zip(names, gradients, strict=True)}
        model.parameters = list(optimizer.step(noisy).values())
        losses.append(loss)
    return Trajectory(
        np.array(losses), tuple(model.parameters[0::2]), tuple(model.parameters[1::2])
    )


def _largest_differences(
    arrays: Sequence[Array], others: Sequence[Sequence[Array]]
) -> tuple[float, ...]:
    return tuple(
        max(float(abs(other[layer] - array).max()) for other in others)
        for layer, array in enumerate(arrays)
    )
