"""A training loop of one's own, in the engine's words, takes the specification's steps."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers, ops

import antiparallel.keras as ap
from antiparallel.spec import Dense, as_rule
from antiparallel.spec.contract import Network, SGDConfig, Weighted
from antiparallel.spec.trainer import train

from .conftest import array, numbers

WIDTHS, BATCH, STEPS = (12, 9, 7, 3), 32, 5
LR, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 1e-4
TOLERANCE = STEPS * 2 * len(WIDTHS) * BATCH * float(np.finfo(np.float32).eps)
"""In each step a gradient passes as many sums forward and back as there are layers; each sum of at
most ``BATCH`` numbers of magnitude 1 may be wrong by as many roundings."""

Batches = Sequence[tuple[np.ndarray, np.ndarray]]


def batches() -> Batches:
    chance = np.random.default_rng(1)
    return [
        (numbers(BATCH, WIDTHS[0], seed=step), chance.integers(WIDTHS[-1], size=BATCH))
        for step in range(STEPS)
    ]


def model(rule: str) -> keras.Sequential:
    stack = [layers.Dense(width, "relu") for width in WIDTHS[1:-1]] + [layers.Dense(WIDTHS[-1])]
    made = keras.Sequential([keras.Input((WIDTHS[0],)), *stack])
    ap.convert(made, rule=rule, seed=5)
    return ap.initialize(made, seed=5)


def sgd() -> ap.SGD:
    return ap.SGD(LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def cross_entropy(logits: object, labels: object) -> object:
    return ops.mean(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True))


def tensorflow_loop(net: keras.Model, optimizer: ap.SGD, batches: Batches) -> None:
    import tensorflow as tf

    optimizer.build(net.trainable_variables)

    @tf.function
    def step(x: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = cross_entropy(net(x, training=True), labels)
        gradients = tape.gradient(loss, [weight.value for weight in net.trainable_variables])
        optimizer.apply(gradients)

    for x, labels in batches:
        step(tf.constant(x), tf.constant(labels))


def jax_loop(net: keras.Model, optimizer: ap.SGD, batches: Batches) -> None:
    import jax

    optimizer.build(net.trainable_variables)

    def loss_of(trainable: list, fixed: list, x: object, labels: object) -> tuple:
        logits, fixed = net.stateless_call(trainable, fixed, x, training=True)
        return cross_entropy(logits, labels), fixed

    @jax.jit
    def step(trainable: list, fixed: list, state: list, x: object, labels: object) -> tuple:
        (_, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trainable, fixed, x, labels
        )
        return *optimizer.stateless_apply(state, gradients, trainable), fixed

    trainable = [weight.value for weight in net.trainable_variables]
    fixed = [weight.value for weight in net.non_trainable_variables]
    state = [slot.value for slot in optimizer.variables]
    for x, labels in batches:
        trainable, state, fixed = step(trainable, fixed, state, x, labels)
    for weight, value in zip(net.trainable_variables, trainable, strict=True):
        weight.assign(value)


def torch_loop(net: keras.Model, optimizer: ap.SGD, batches: Batches) -> None:
    import torch

    optimizer.build(net.trainable_variables)
    for x, labels in batches:
        net.zero_grad()
        loss = cross_entropy(net(torch.from_numpy(x), training=True), torch.from_numpy(labels))
        loss.backward()
        with torch.no_grad():
            optimizer.apply([weight.value.grad for weight in net.trainable_variables])


LOOP: Callable[[keras.Model, ap.SGD, Batches], None] = {
    "tensorflow": tensorflow_loop,
    "jax": jax_loop,
    "torch": torch_loop,
}[ap.ENGINE]


@pytest.mark.parametrize("rule", ["bp", "ss", "ss-fixed", "fa", "fa-sign"])
def test_a_loop_of_ones_own_takes_the_specification_s_steps(rule: str) -> None:
    geometries = [Dense(n_in, n_out) for n_in, n_out in pairwise(WIDTHS)]
    weighted = [Weighted(geometry, as_rule(rule)) for geometry in geometries]
    network = Network((weighted[0], "relu", weighted[1], "relu", weighted[2]))
    config = SGDConfig(lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    expected = train(network, batches(), config, seed=5)
    net = model(rule)
    LOOP(net, sgd(), batches())
    for layer, weight, bias in zip(net.layers, expected.weights, expected.biases, strict=True):
        np.testing.assert_allclose(array(layer.kernel).T, weight, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(array(layer.bias), bias, rtol=0, atol=TOLERANCE)


def test_the_rules_take_different_steps() -> None:
    ends = []
    for rule in ("bp", "ss", "ss-fixed", "fa"):
        net = model(rule)
        LOOP(net, sgd(), batches())
        ends.append(array(net.layers[0].kernel))
    for number, end in enumerate(ends):
        for other in ends[:number]:
            assert abs(end - other).max() > 10 * TOLERANCE


@pytest.mark.skipif(ap.ENGINE != "torch", reason="torch.compile is the torch engine's")
@pytest.mark.parametrize("rule", ["ss", "fa"])
def test_torch_compile_of_a_converted_model_gives_the_same_gradients(rule: str) -> None:
    import torch

    x = torch.from_numpy(batches()[0][0])
    found = []
    for compiled in (False, True):
        net = model(rule)
        call = torch.compile(net, backend="aot_eager") if compiled else net
        (call(x, training=True) ** 2).sum().backward()
        found.append([array(weight.value.grad) for weight in net.trainable_variables])
    for eager, traced in zip(*found, strict=True):
        np.testing.assert_allclose(traced, eager, rtol=0, atol=TOLERANCE * abs(eager).max())
