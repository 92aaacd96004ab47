"""What Keras computes on: threads, and several devices by keras.distribution."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.processes import Place, Processes
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import process_memory
from antiparallel.spec import SpecError

ENGINE = keras.config.backend()


class KerasDevices(Processes):
    """Devices, each with all parameters and its part of every batch.

    Args:
        devices: How many.
        device: Where the rest is computed, in the words of ``keras.device``.
    """

    def __init__(self, devices: int, device: str) -> None:
        super().__init__()
        self.devices = devices
        self.device = device

    def describe(self) -> dict[str, str]:
        """Return how many there are and how they share the work, for the record."""
        return {"devices": f"{self.devices} (DataParallel)"}


@contextmanager
def joined(place: Place, recipe: Recipe, devices: int, sharded: bool) -> Iterator[Processes]:
    """Let Keras spread what is built and computed meanwhile over several devices.

    Several processes spread it over all of theirs.

    Raises:
        SpecError: The engine cannot, or there are fewer devices.
    """
    _require_jax()
    if sharded:
        raise SpecError("Expected --sharded with PyTorch only. Received: Keras")
    set_threads(recipe.threads)  # first, because looking for devices begins JAX
    if place.part.world > 1:
        from antiparallel.benchmarks.steppers.keras3_processes import JaxProcesses, met

        with met(place):
            found = _devices(recipe.device)
            with _spreading_over(found):
                yield JaxProcesses(place.part, len(found), recipe.device)
        return
    with spread_over(devices, recipe.device):
        yield KerasDevices(devices, recipe.device)


@contextmanager
def spread_over(devices: int, device: str) -> Iterator[None]:
    """Let Keras spread what is built and computed meanwhile over this process's devices.

    Args:
        devices: How many.
        device: Their kind.

    Raises:
        SpecError: The engine cannot, or there are fewer devices.
    """
    _require_jax()
    found = _devices(device)
    if len(found) < devices:
        raise SpecError(f"Expected at most {len(found)} devices. Received: devices={devices}")
    with _spreading_over(found[:devices]):
        yield


def predict(model: keras.Model, pixels: NDArray[Any]) -> Any:
    """Return a model's outputs for this process's pictures: an array, or several by name."""
    distribution = keras.distribution.distribution()
    if distribution is not None and distribution.num_processes > 1:
        from antiparallel.benchmarks.steppers.keras3_processes import predict_alone

        return predict_alone(model, pixels)
    outputs = model.predict_on_batch(spread(pixels))
    return keras.tree.map_structure(lambda output: output[: len(pixels)], outputs)


def spread(batch: NDArray[Any]) -> Any:
    """Return a batch laid out over the devices, if there are several, zeros added for evenness."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return batch
    missing = -len(batch) % distribution.device_mesh.devices.size
    even = np.concatenate([batch, np.zeros_like(batch, shape=(missing, *batch.shape[1:]))])
    layout = distribution.get_data_layout(even.shape)
    return keras.distribution.distribute_tensor(even, layout)


def describe_engine() -> dict[str, str]:
    """Return the versions of Keras and its engine, for the record."""
    return {"keras": keras.__version__, "engine": ENGINE, ENGINE: _engine_version()}


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Give the layers built meanwhile a policy, if it is not the usual one."""
    before = keras.config.dtype_policy()
    if precision != "float32":
        keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def on(device: str) -> Any:
    """Return the context in which the engine builds and computes on a device.

    Raises:
        SpecError: The engine cannot use it.
    """
    try:
        scope = keras.device(device)
        with scope:
            keras.ops.zeros(())
        return keras.device(device)
    except Exception as error:  # each engine has its own
        reason = str(error).splitlines()[0]
        raise SpecError(
            f"Expected a device that {ENGINE} can use ({reason}). Received: device={device!r}"
        ) from error


def used_memory(device: str) -> int:
    """Return the most memory used so far, in bytes: a GPU's, or on CPUs the process's."""
    on_gpu = device.lower().startswith(("gpu", "cuda"))
    return _device_memory(device) if on_gpu else process_memory()


def _device_memory(device: str) -> int:
    """Return the most memory that the engine has had on a device."""
    if ENGINE == "torch":
        import torch

        return torch.cuda.max_memory_allocated(device.replace("gpu", "cuda"))
    number = int(device.partition(":")[2] or 0)
    if ENGINE == "tensorflow":
        import tensorflow as tf

        return int(tf.config.experimental.get_memory_info(f"GPU:{number}")["peak"])
    import jax

    ours = next(found for found in jax.local_devices() if found.id == number)
    return int(ours.memory_stats()["peak_bytes_in_use"])


def _engine_version() -> str:
    distribution = "tensorflow-cpu" if ENGINE == "tensorflow" else ENGINE
    try:
        return version(distribution)
    except ModuleNotFoundError:
        return version(ENGINE)


def _spreading_over(devices: list[str]) -> AbstractContextManager[None]:
    spread = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    scope: AbstractContextManager[None] = spread.scope()
    return scope


def set_threads(threads: int) -> str:
    """Set the engine's CPU threads, which two of the three can only before they compute."""
    if ENGINE == "torch":
        import torch

        torch.set_num_threads(threads)
    elif ENGINE == "tensorflow":
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
            # It gives sums of three gradients and more another order in each process.
            tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
        except RuntimeError as error:
            used = tf.config.threading.get_intra_op_parallelism_threads()
            raise SpecError(
                f"Expected the number of threads that TensorFlow began with, {used}. "
                f"Received: threads={threads}"
            ) from error
    else:
        # Read when JAX first computes; more than one means as many as XLA likes.
        if threads == 1 and "multi_thread_eigen" not in os.environ.get("XLA_FLAGS", ""):
            flags = os.environ.get("XLA_FLAGS", "")
            os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        return str(threads) if threads == 1 else "XLA's choice"
    return str(threads)


def _require_jax() -> None:
    if ENGINE != "jax":
        raise SpecError(
            "Expected KERAS_BACKEND=jax, the engine on which Keras spreads batches over devices. "
            f"Received: KERAS_BACKEND={ENGINE}"
        )


def _devices(device: str) -> list[str]:
    try:
        found: list[str] = keras.distribution.list_devices(device)
    except RuntimeError as error:  # JAX's, of an unknown kind
        reason = str(error).splitlines()[0]
        raise SpecError(
            f"Expected a kind of device that {ENGINE} can use ({reason}). "
            f"Received: device={device!r}"
        ) from error
    return found
