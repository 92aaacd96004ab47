"""What takes the steps that are measured on Keras, on whichever engine KERAS_BACKEND names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.keras3_networks import network, pictures
from antiparallel.benchmarks.speed.keras3_passes import passes_of
from antiparallel.benchmarks.steppers.keras3_devices import (
    ENGINE,
    computing_in,
    describe_engine,
    on,
    set_threads,
    used_memory,
)
from antiparallel.spec import SpecError

LR, MOMENTUM = 1e-3, 0.9
"""So low a rate that weights stay near their start, however often a batch is learnt."""


class KerasContender:
    """A Keras model under one rule, with its optimizer and one batch; see ``Contender``.

    Args:
        model: The model, compiled.
        batch: Pictures and what they show, as tensors of the engine.
        device: Where it is, in the words of ``keras.device``.
        threads: CPU threads that the engine uses.
    """

    def __init__(
        self, model: keras.Model, batch: tuple[Any, Any], device: str, threads: str
    ) -> None:
        self.model = model
        self.batch = batch
        self.passes = passes_of(model)
        self._device = device
        self._threads = threads

    def forward(self) -> None:
        """Compute the loss, as in training; see ``Contender``."""
        with keras.device(self._device):
            self.passes.forward(*self.batch)

    def gradients(self) -> None:
        """Compute the loss and all gradients; see ``Contender``."""
        with keras.device(self._device):
            self.passes.gradients(*self.batch)

    def step(self) -> None:
        """Make one update, by Keras's own step; see ``Contender``."""
        with keras.device(self._device):
            self.passes.step(*self.batch)

    def describe(self) -> dict[str, str]:
        """Return versions, engine, device and threads; see ``Contender``."""
        return {**describe_engine(), "device": self._device, "threads": self._threads}

    def memory(self) -> int:
        """Return the most memory used so far; see ``Contender``."""
        return used_memory(self._device)


@contextmanager
def joined(case: Case) -> Iterator[None]:
    """Let the parts of a case, if it has any, work together; see ``Builder``.

    Raises:
        SpecError: Keras or its engine cannot.
    """
    if case.way != "alone":
        raise SpecError(f"Expected a way of Keras. Received: way={case.way!r}")
    set_threads(case.threads)
    yield


def build(case: Case, rule: str) -> KerasContender:
    """Build a network, ready to take its first step; see ``Builder``.

    Raises:
        SpecError: The rule is unknown, or the engine cannot do what the case asks.
    """
    if ":" in rule:
        raise SpecError(f"Expected one of our rules: no peer has Keras layers. Received: {rule!r}")
    threads = set_threads(case.threads)
    device = case.device.replace("cuda", "gpu")  # in Keras's words, which every engine knows
    with on(device):
        with computing_in(case.precision):
            model = network(case, rule)
        optimizer = keras.optimizers.SGD(LR, momentum=MOMENTUM)
        optimizer.build(model.trainable_variables)
        # A detector's loss is its own, of any name.
        loss = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
        model.compile(
            optimizer=optimizer,
            metrics=[],
            jit_compile=case.compiled or ENGINE == "jax",  # which has nothing else
            **({} if case.model == "retinanet" else loss),
        )
        batch = keras.tree.map_structure(keras.ops.convert_to_tensor, pictures(case))
    return KerasContender(model, batch, device, threads)
