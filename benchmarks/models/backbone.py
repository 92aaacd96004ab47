"""Weights that a detector's ResNet-18 begins with: torchvision's, or those of a run of ours."""

import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.models.correspondence import Arrays
from antiparallel.benchmarks.models.resnet18 import CONVOLUTIONS, NORMALIZATIONS, RESNET18
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.spec import SpecError

_NORMALIZATION = ("weight", "bias", "running_mean", "running_var")
_NAMES = {f"{layer}.weight" for layer in CONVOLUTIONS} | {
    f"{layer}.{variable}" for layer in NORMALIZATIONS for variable in _NORMALIZATION
}
_KERAS_VARIABLES = {"conv": ("kernel",), "bn": ("gamma", "beta", "moving_mean", "moving_variance")}
"""The variables of a layer in the order in which Keras numbers them, by the end of its name."""


def backbone_weights(name: str) -> tuple[Arrays, str]:
    """Return a trained ResNet-18 without its last layer.

    Args:
        name: Torchvision's name of the weights, as ``IMAGENET1K_V1``, which are downloaded unless
            they were before; or the folder of a completed run, of either backend.

    Returns:
        Arrays by torchvision's names, without ``fc`` and feedback; and for the record what they
        are, with the beginning of their SHA-256.

    Raises:
        SpecError: There are no such weights or they cannot be had, the run is not complete or has
            another network, or its checkpoint is damaged.
    """
    folder = Path(name)
    state, source = _of_run(folder) if folder.is_dir() else _of_torchvision(name)
    arrays = {name: state[name] for name in sorted(_NAMES & state.keys())}
    if missing := sorted(_NAMES - arrays.keys()):
        raise SpecError(
            f"Expected all weights of a ResNet-18. Received: {source} without {missing[0]}"
        )
    return arrays, f"{source}, sha256 {_checksum(arrays)[:16]}"


def _of_torchvision(name: str) -> tuple[Arrays, str]:
    # In a process of its own: PyTorch's import can crash where TensorFlow was imported before
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        arrays = process.submit(_torchvision_arrays, name).result()
    return arrays, f"torchvision ResNet18_Weights.{name}"


def _torchvision_arrays(name: str) -> Arrays:
    try:
        from torchvision.models import ResNet18_Weights
    except ModuleNotFoundError as error:
        raise SpecError(
            "Expected torchvision to be installed for weights by its names: pip install "
            f"torchvision; or a run's folder. Received: backbone={name!r}"
        ) from error
    known = ResNet18_Weights.__members__
    if name not in known:
        raise SpecError(
            f"Expected none, one of torchvision's {', '.join(known)}, or a run's folder. "
            f"Received: backbone={name!r}"
        )
    try:
        # Arrays only: a file of torch can hold programs too
        state = known[name].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise SpecError(
            f"Expected torchvision's file of weights, downloaded now or before ({reason}). "
            f"Received: backbone={name!r}"
        ) from error
    return {key: tensor.numpy() for key, tensor in state.items()}


def _of_run(path: Path) -> tuple[Arrays, str]:
    folder = RunFolder(path)
    record = folder.read_record()
    if record.recipe.model != "resnet18" or record.status != "complete":
        raise SpecError(
            "Expected a complete run of a resnet18 for the backbone. "
            f"Received: a {record.status} run of a {record.recipe.model}, in {str(path)!r}"
        )
    checkpoint = folder.load()
    if checkpoint is None:
        raise SpecError(
            f"Expected a run with a checkpoint for the backbone. Received: {str(path)!r}"
        )
    read = _from_torch if record.backend == "torch" else _from_keras
    return read(checkpoint.state), record.name


def _from_torch(state: Mapping[str, NDArray[Any]]) -> Arrays:
    return {name.removeprefix("model."): array for name, array in state.items()}


def _from_keras(state: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return a Keras checkpoint's arrays, named ``model/path/number``, by torchvision's names."""
    found: Arrays = {}
    for name, array in state.items():
        match = re.fullmatch(r"model/(.+)/(\d+)", name)
        layer = RESNET18.keras_name(match[1]) if match else None
        variables = _KERAS_VARIABLES.get(layer.rpartition("_")[2], ()) if layer else ()
        if match and int(match[2]) < len(variables):
            found[f"{layer}/{variables[int(match[2])]}"] = array
    return RESNET18.keras_to_torch(found)


def _checksum(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
