"""How much devices say to each other in a training step, read from the program that XLA makes."""

import re
from collections import Counter
from typing import Any

import keras

from antiparallel.benchmarks.speed.keras3_passes import state_of

_OPERATION = re.compile(
    r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-broadcast|collective-permute)"
    r"(?:-start)?\("
)
"""In XLA's text; some devices begin an operation and await its end later."""


def collective_operations(model: keras.Model, x: Any, y: Any) -> dict[str, int]:
    """Return how many collective operations are in the compiled training step, by their names.

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
    return dict(Counter(_OPERATION.findall(program)))
