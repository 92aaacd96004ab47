"""The weight layers of a model, in order, and what keeps one from carrying feedback."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import keras

from antiparallel.keras.attachment import FeedbackState
from antiparallel.keras.bypass import bypassed_layers
from antiparallel.keras.layers import FEEDBACK_LAYERS, FeedbackLayer
from antiparallel.keras.layout import SEPARABLE, WeightLayer, kernels
from antiparallel.spec import UnsupportedError


@dataclass(frozen=True)
class Found:
    """A weight layer of a model.

    Args:
        names: Its names, ``outer/inner/layer``; more than one if it is reachable several ways.
        module: The layer.
        index: The place of its first kernel among the model's weight layers, in the order in which
            Keras lists layers. A separable convolution counts as two.
        obstacle: Why its feedback cannot go through B; empty if it can.
    """

    names: tuple[str, ...]
    module: WeightLayer
    index: int
    obstacle: str

    @property
    def name(self) -> str:
        """The first of its names; empty if it is the model itself."""
        return self.names[0]


def weight_layers(model: keras.layers.Layer) -> list[Found]:
    """Return every weight layer once, whether converted or not, in the order of traversal."""
    names: dict[int, list[str]] = {}
    modules: dict[int, WeightLayer] = {}
    for name, layer in named_layers(model):
        if isinstance(layer, get_args(WeightLayer)):
            modules[id(layer)] = layer
            names.setdefault(id(layer), []).append(name)
    readers = bypassed_layers(model)
    found, index = [], 0
    for key, module in modules.items():
        obstacle = _obstacle(module, readers.get(key))
        found.append(Found(tuple(names[key]), module, index, obstacle))
        index += 2 if isinstance(module, SEPARABLE) else 1
    return found


def named_layers(model: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yield a model's layers with their names, a layer under each of its names.

    Names of layers on the way are joined by slashes; a name that two layers of one parent share
    is told apart by a number.
    """
    yield from _named(model, "", ())


def _named(
    layer: keras.layers.Layer, name: str, above: tuple[int, ...]
) -> Iterator[tuple[str, keras.layers.Layer]]:
    yield name, layer
    if id(layer) in above:
        return
    taken: dict[str, int] = {}
    for child in children(layer):
        number = taken.get(child.name, 0)
        taken[child.name] = number + 1
        own = f"{child.name}:{number}" if number else child.name
        yield from _named(child, f"{name}/{own}" if name else own, (*above, id(layer)))


def children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the layers that a layer holds, once each."""
    # Public only for models; Keras itself walks custom layers by this method.
    inside = layer._flatten_layers(include_self=False, recursive=False)
    return [
        child
        for child in inside
        if not isinstance(child, FeedbackState)
        # A Sequential holds its layers a second time, in the Functional that it runs.
        and child is not getattr(layer, "_functional", None)
    ]


def _obstacle(module: WeightLayer, reader: str | None) -> str:
    if reader is not None:
        return f"its kernel is read by {reader}, not used by calling it"
    if getattr(module, "quantization_mode", None):
        return "its weights are quantised"
    if isinstance(module, FeedbackLayer):
        return ""
    if not module.built:
        return "not built yet: call the model once, or build it, then convert"
    if "call" in vars(module):
        return "its call was replaced on the instance"
    kind = type(module)
    if kind not in FEEDBACK_LAYERS:
        name = next(base.__name__ for base in kind.__mro__ if base in FEEDBACK_LAYERS)
        return f"a subclass of {name} ({kind.__module__}.{kind.__qualname__}), with its own ways"
    try:
        kernels(module)
    except UnsupportedError as error:
        return str(error)
    return ""
