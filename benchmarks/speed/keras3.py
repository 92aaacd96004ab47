"""What takes the steps that are measured on Keras, on whichever engine KERAS_BACKEND names."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import keras
from numpy.typing import NDArray

from antiparallel.benchmarks.data import Part
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.keras3_collectives import collective_operations
from antiparallel.benchmarks.speed.keras3_networks import network
from antiparallel.benchmarks.speed.keras3_passes import passes_of
from antiparallel.benchmarks.speed.pictures import Pictures, random_pictures
from antiparallel.benchmarks.steppers.keras3_devices import (
    ENGINE,
    computing_in,
    describe_engine,
    on,
    set_threads,
    spread,
    spread_over,
    used_memory,
)

# A step takes as long at any rate; at this one no rule's losses overflow.
_LR = 1e-3


class KerasContender:
    """A Keras model under one rule, with its optimizer and one batch; see ``Contender``.

    Args:
        model: The model, compiled.
        batches: Pictures and what they show, as tensors of the engine; several, if the gradients
            of several make an update.
        device: Where it is, in the words of ``keras.device``.
        threads: CPU threads that the engine uses.

    Attributes:
        loss: The mean loss that was computed last, in nats.
    """

    loss: float

    def __init__(
        self, model: keras.Model, batches: list[tuple[Any, Any]], device: str, threads: str
    ) -> None:
        self.model = model
        self.batches = batches
        self.passes = passes_of(model)
        self._device = device
        self._threads = threads

    def forward(self) -> None:
        """Compute the loss, as in training; see ``Contender``."""
        self._run(self.passes.forward)

    def gradients(self) -> None:
        """Compute the loss and all gradients; see ``Contender``."""
        self._run(lambda x, y: self.passes.gradients(x, y)[0])

    def step(self) -> None:
        """Make one update, by Keras's own step; see ``Contender``."""
        self._run(self.passes.step)

    def update(self) -> None:
        """Give the optimizer gradients of zeros, for every part of a step; see ``Contender``."""
        with keras.device(self._device):
            for _ in self.batches:
                self.passes.update(self._zeros)

    def describe(self) -> dict[str, str]:
        """Return versions, engine, device and threads; see ``Contender``."""
        return {**describe_engine(), "device": self._device, "threads": self._threads}

    def memory(self) -> int:
        """Return the most memory used so far; see ``Contender``."""
        return used_memory(self._device)

    @cached_property
    def _zeros(self) -> list[Any]:
        """Gradients that take an optimizer as long as any, laid out as their variables."""
        return [keras.ops.zeros_like(one.value) for one in self.model.trainable_variables]

    def _run(self, part: Callable[[Any, Any], Any]) -> None:
        with keras.device(self._device):
            losses = [float(part(pictures, shown)) for pictures, shown in self.batches]
        self.loss = sum(losses) / len(losses)


@contextmanager
def joined(case: Case) -> Iterator[None]:
    """Let the parts of a case, if it has any, work together; see ``Builder``.

    A CPU is split into as many virtual devices, if JAX has not begun and nobody asked for others.

    Raises:
        SpecError: The engine cannot, or there are too few devices.
    """
    set_threads(case.threads)
    if case.way != "devices":
        yield
        return
    if ENGINE == "jax" and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        import jax

        with suppress(RuntimeError):  # it has begun, with the devices that it found
            jax.config.update("jax_num_cpu_devices", case.parts)
    with spread_over(case.parts, case.device.replace("cuda", "gpu")):
        yield


def build(case: Case, rule: str) -> KerasContender:
    """Build a network, ready to take its first step; see ``Builder``.

    Raises:
        SpecError: There is no such rule or device.
    """
    threads = set_threads(case.threads)
    device = case.device.replace("cuda", "gpu:0")  # in Keras's words, which every engine knows
    small = case.parts if case.way == "accumulated" else 1
    with on(device):
        with computing_in(case.precision):
            model = network(case, rule)
        optimizer = keras.optimizers.SGD(
            _LR, momentum=0.9, gradient_accumulation_steps=small if small > 1 else None
        )
        optimizer.build(model.trainable_variables)
        # A detector's loss is its own; to a classifier KerasHub has given the accuracy too.
        loss = {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": [],
        }
        model.compile(
            optimizer=optimizer,
            jit_compile=case.compiled or ENGINE == "jax",  # which has nothing else
            **({} if case.model == "retinanet" else loss),
        )
        pictures = random_pictures(case)
        batches = [_shown(pictures.of(Part(number, small))) for number in range(small)]
    return KerasContender(model, batches, device, threads)


def collectives(case: Case, rule: str) -> dict[str, int]:
    """Return how many collective operations one step takes, by their names; see ``Builder``."""
    contender = build(case, rule)
    return collective_operations(contender.model, *contender.batches[0])


def _shown(pictures: Pictures) -> tuple[Any, Any]:
    """Return pictures and what they show as tensors, over the devices if there are several."""

    def tensor(array: NDArray[Any]) -> Any:
        return keras.ops.convert_to_tensor(spread(array))

    images, labels, boxes = pictures
    objects = {"labels": labels, "boxes": boxes} if len(boxes) else labels
    return tensor(images), keras.tree.map_structure(tensor, objects)
