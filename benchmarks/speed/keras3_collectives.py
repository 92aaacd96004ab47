"""How much devices say to each other in a training step, read from the program that XLA makes."""

import re
from collections import Counter
from math import prod
from typing import Any

import keras

from antiparallel.benchmarks.speed.keras3_passes import state_of

_OPERATION = re.compile(
    r"= (?P<tensors>.*?) (?P<name>all-reduce|all-gather|all-to-all|reduce-scatter|"
    r"collective-broadcast|collective-permute)(-start)?\("
)
"""In XLA's text, after what it returns; some devices begin one, and await its end later."""

_TENSOR = re.compile(r"[a-z]+(?P<bits>\d+)\w*\[(?P<shape>[\d,]*)\]")


def collective_operations(model: keras.Model, x: Any, y: Any) -> dict[str, int]:
    """Return how many collective operations of each name a step takes, and their ``"bytes"``.

    Args:
        model: A model compiled on JAX, whose variables lie where the step will find them.
        x: A batch of pictures, laid out over the devices.
        y: What they show.
    """
    import jax

    model.make_train_function()

    def step(state: Any, batch: Any) -> Any:
        return model.train_function(state, iter([batch]))

    program = jax.jit(step).lower(state_of(model), (x, y, None)).compile().as_text()
    found = list(_OPERATION.finditer(program))
    tensors = [tensor for one in found for tensor in _TENSOR.finditer(one["tensors"])]
    return {**Counter(one["name"] for one in found), "bytes": sum(map(_bytes, tensors))}


def _bytes(tensor: re.Match[str]) -> int:
    return int(tensor["bits"]) // 8 * prod(int(size) for size in tensor["shape"].split(",") if size)
