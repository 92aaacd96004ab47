"""A small NumPy trainer, the measure for training parity (SPEC.md, chapter T)."""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from antiparallel.spec import layers
from antiparallel.spec.contract import Array, Network, SGDConfig, Trajectory, Weighted
from antiparallel.spec.errors import SpecError
from antiparallel.spec.feedback import Feedback
from antiparallel.spec.initialization import initial_bias, initial_weight
from antiparallel.spec.sgd import SGD

Labels = NDArray[np.int64]


@np.errstate(over="ignore", invalid="ignore")  # clause N7: a diverging run yields its NaN losses
def train(
    network: Network,
    batches: Sequence[tuple[Array, Labels]],
    config: SGDConfig,
    *,
    seed: int = 0,
) -> Trajectory:
    """Initialise a network by the specification and train it, one update per batch.

    Args:
        network: The layers.
        batches: Inputs and labels; the first input's dtype is the network's.
        config: The optimizer's settings.
        seed: Seed of initial weights and feedback.

    Raises:
        SpecError: There is no batch, or one does not fit the network (clauses E4, E11).
    """
    if not batches:
        raise SpecError("Expected at least one batch. Received: batches=[]")
    model = Model(network, batches[0][0].dtype, seed)
    weights = [f"{number}.weight" for number in range(len(model.feedback))]
    biases = [f"{number}.bias" for number in range(len(model.feedback))]
    names = [name for pair in zip(weights, biases, strict=True) for name in pair]
    optimizer = SGD(config, dict(zip(names, model.parameters, strict=True)), biases)
    losses = []
    for x, labels in batches:
        loss, gradients = model.loss_and_gradients(x, labels)
        updated = optimizer.step(dict(zip(names, gradients, strict=True)))
        model.parameters = [updated[name] for name in names]
        losses.append(loss)
    return Trajectory(
        np.array(losses, np.float64),
        weights=tuple(model.parameters[0::2]),
        biases=tuple(model.parameters[1::2]),
    )


class Model:
    """A network with its parameters and the feedback of its weight layers.

    Args:
        network: The layers.
        dtype: Dtype of parameters and activations.
        seed: Seed of initial weights and feedback.

    Attributes:
        parameters: Weight and bias of the first weight layer, of the second, and so on.
        feedback: The feedback of each weight layer.
    """

    def __init__(self, network: Network, dtype: np.dtype[np.floating], seed: int) -> None:
        self.layers = network.layers
        self.parameters: list[Array] = []
        self.feedback: list[Feedback] = []
        weighted = [layer for layer in network.layers if isinstance(layer, Weighted)]
        for index, layer in enumerate(weighted):
            geometry, scale = layer.geometry, layer.scale
            weight = initial_weight(geometry, dtype, scale=scale, seed=seed, index=index)
            self.parameters += [weight, initial_bias(geometry, dtype)]
            self.feedback.append(
                Feedback(layer.rule, geometry, weight, scale=scale, seed=seed, index=index)
            )

    def loss_and_gradients(self, x: Array, labels: Labels) -> tuple[float, list[Array]]:
        """Run one forward and one backward pass.

        Returns:
            The loss and the gradients, in the order of the parameters.
        """
        activations = self._activations(x)
        loss, error = softmax_cross_entropy(activations[-1], labels)
        gradients: list[Array] = []
        number = len(self.feedback)
        for layer, entering in zip(reversed(self.layers), reversed(activations[:-1]), strict=True):
            if isinstance(layer, Weighted):
                number -= 1
                error, weight, bias = self._backward(number, entering, error)
                gradients = [weight, bias, *gradients]
            elif layer == "relu":
                error = error * (entering > 0)
            else:
                error = error.reshape(entering.shape)
        return loss, gradients

    def _activations(self, x: Array) -> list[Array]:
        """Return what enters each layer, and what leaves the last."""
        activations, number = [x], 0
        for layer in self.layers:
            if isinstance(layer, Weighted):
                weight, bias = self.parameters[2 * number : 2 * number + 2]
                x = layers.forward(layer.geometry, x, weight, bias)
                number += 1
            elif layer == "relu":
                x = np.maximum(x, 0)
            else:
                x = x.reshape(len(x), prod(x.shape[1:]))
            activations.append(x)
        return activations

    def _backward(self, number: int, x: Array, error: Array) -> tuple[Array, Array, Array]:
        feedback = self.feedback[number]
        matrix = feedback.matrix(self.parameters[2 * number])
        gradients = layers.backward(feedback.geometry, x, error, matrix)
        feedback.advance()
        assert gradients.bias is not None
        return gradients.input, gradients.weight, gradients.bias


def softmax_cross_entropy(logits: Array, labels: Labels) -> tuple[float, Array]:
    """Return the mean cross-entropy of a batch and its gradient by the logits.

    ``E = -mean_n log p[n, label_n]`` with ``p = softmax(z)``, and ``dE/dz = (p - onehot) / batch``.

    Args:
        logits: z, ``(batch, classes)``.
        labels: ``(batch,)``, integers in ``[0, classes)``.

    Raises:
        SpecError: Labels and logits do not fit (clause E11).
    """
    if logits.ndim != 2 or len(logits) == 0 or labels.shape != logits.shape[:1]:
        raise SpecError(
            "Expected logits (batch, classes) and labels (batch,), batch >= 1. "
            f"Received: shapes={logits.shape}, {labels.shape}"
        )
    batch, classes = logits.shape
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise SpecError(f"Expected integer labels in [0, {classes}). Received: labels={labels}")
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    picked = (np.arange(batch), labels)
    error = np.exp(log_p)
    error[picked] -= 1
    return -float(log_p[picked].mean()), error / batch
