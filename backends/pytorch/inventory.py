"""The weight layers of a model, in order, and what keeps one from carrying feedback."""

from dataclasses import dataclass
from typing import get_args

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from antiparallel.torch.bypass import bypassed_layers
from antiparallel.torch.layers import FEEDBACK_LAYERS, FeedbackLayer
from antiparallel.torch.layout import WeightLayer


@dataclass(frozen=True)
class Found:
    """A weight layer of a model.

    Args:
        names: Its names; more than one if it is reachable along several ways.
        module: The layer.
        index: Its place among the model's weight layers, in the order of ``named_modules``.
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


def weight_layers(model: nn.Module) -> list[Found]:
    """Return every weight layer once, whether converted or not, in the order of traversal."""
    names: dict[WeightLayer, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, get_args(WeightLayer)):
            names.setdefault(module, []).append(name)
    readers = bypassed_layers(model)
    return [
        Found(tuple(names[module]), module, index, _obstacle(module, readers.get(module)))
        for index, module in enumerate(names)
    ]


def plain_type(module: nn.Module) -> type[nn.Module]:
    """Return a module's type, looking through the subclass that parametrizations make."""
    kind = type(module)
    return kind.__bases__[0] if parametrize.is_parametrized(module) else kind


def _obstacle(module: WeightLayer, reader: str | None) -> str:
    if reader is not None:
        return f"its weight is read by {reader}, not used by calling it"
    if "forward" in vars(module):
        return "its forward was replaced on the instance"
    if isinstance(module, FeedbackLayer):
        return ""
    if isinstance(module, LazyModuleMixin):
        return "a lazy layer: run it once, then convert"
    kind = plain_type(module)
    if kind not in FEEDBACK_LAYERS:
        name = next(base.__name__ for base in kind.__mro__ if base in FEEDBACK_LAYERS)
        return f"a subclass of {name} ({kind.__module__}.{kind.__qualname__}), with its own ways"
    return ""
