"""Several processes on Keras and JAX: one program over the devices of all, and the rest."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather
from numpy.typing import NDArray

from antiparallel.benchmarks.data import Part
from antiparallel.benchmarks.processes import Place, Stop
from antiparallel.benchmarks.steppers.keras3_devices import KerasDevices


class JaxProcesses(KerasDevices):
    """Processes of ``jax.distributed``; see ``Processes``.

    Losses and weights need no messages of ours: an update is one program over all devices.

    Args:
        part: Which one of how many this is.
        devices: How many devices they have, all together.
        kind: The kind of device.
    """

    def __init__(self, part: Part, devices: int, kind: str) -> None:
        ours = jax.local_devices(backend=kind)[0]
        super().__init__(devices, f"{ours.platform}:{ours.id}")
        self.part = part

    def gather(self, message: bytes) -> list[bytes]:
        """Return every process's message, in their order."""
        sizes = process_allgather(np.array(len(message)))
        return [self._sent(rank, int(size), message) for rank, size in enumerate(sizes)]

    def agreed(self, stop: Stop) -> Stop:
        """Return the question whether to stop, which all ask at once: a message each time."""
        return lambda: any(self.gather(b"stop" if stop() else b""))

    def describe(self) -> dict[str, str]:
        """Return how many there are and how they share the work, for the record."""
        return {"processes": f"{self.part.world} (DataParallel)", **super().describe()}

    def _sent(self, rank: int, size: int, message: bytes) -> bytes:
        if not size:
            return b""
        ours = rank == self.part.rank
        buffer = np.frombuffer(message, np.uint8) if ours else np.zeros(size, np.uint8)
        return bytes(np.asarray(broadcast_one_to_all(buffer, is_source=ours)))


@contextmanager
def met(place: Place) -> Iterator[None]:
    """Meet the other processes, each of which takes one GPU, and part from them at the end."""
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    # By it Keras draws a model's first values, which must be the same everywhere. Its own
    # keras.distribution.initialize agrees on another seed, and imports TensorFlow to set it.
    random.seed(0)
    jax.distributed.initialize(
        f"{place.address}:{place.port + 1}",  # on the port itself torchrun listens
        num_processes=place.part.world,
        process_id=place.part.rank,
        local_device_ids=[place.local],
        shutdown_timeout_seconds=10,  # by which a process that failed alone waits for the others
    )
    yield  # an error ends this process, and the launcher the others
    jax.distributed.shutdown()


def predict_alone(model: keras.Model, pixels: NDArray[Any]) -> Any:
    """Return what a model makes of one process's pictures, however many the others have."""
    parameters, others = (
        [variable.value.addressable_data(0) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    return jax.tree.map(np.asarray, _predict(model, parameters, others, pixels))


@partial(jax.jit, static_argnums=0)
def _predict(model: keras.Model, parameters: Any, others: Any, pixels: Any) -> Any:
    return model.stateless_call(parameters, others, pixels, training=False)[0]
