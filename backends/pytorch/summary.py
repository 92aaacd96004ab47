"""What follows which rule in a model, and what does not and why."""

from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize

from antiparallel.spec import Backprop
from antiparallel.torch.inventory import Found, weight_layers
from antiparallel.torch.layers import FeedbackLayer
from antiparallel.torch.layout import WeightLayer

_HEADER = ("layer", "kind", "rule", "lambda", "feedback parameters")


@dataclass(frozen=True)
class Row:
    """One module that owns weights.

    Args:
        name: Its name in the model; empty if it is the model itself.
        kind: Its class.
        rule: The rule's short name; None where no rule applies and the layer learns by backprop.
        feedback_scale: lambda; None under ``bp`` or no rule.
        feedback_parameters: How many numbers it keeps as feedback.
        reason: Why no rule applies; empty otherwise.
    """

    name: str
    kind: str
    rule: str | None
    feedback_scale: float | None
    feedback_parameters: int
    reason: str

    @property
    def converted(self) -> bool:
        """Whether the layer's error goes back by its rule."""
        return self.rule is not None


@dataclass(frozen=True)
class Summary:
    """One row for every module that owns weights, in the order of the model; prints as a table."""

    rows: tuple[Row, ...]

    def __getitem__(self, name: str) -> Row:
        """Return the row of the layer with this name."""
        return {row.name: row for row in self.rows}[name]

    def __str__(self) -> str:
        table = [_HEADER, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(_HEADER))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            for line in table
        ]
        notes = ["", *(row.reason and f"left alone: {row.reason}" for row in self.rows)]
        return "\n".join(
            f"{line}  {note}".rstrip() for line, note in zip(lines, notes, strict=True)
        )


def summary(model: nn.Module) -> Summary:
    """Return what every module that owns weights does with the error.

    Args:
        model: Any model: converted, built of ``antiparallel.torch`` layers, or neither.

    Returns:
        A row for each weight layer, and for each other module that owns a weight matrix
        (embeddings, recurrent layers, attention's own projections), which has no rule.
    """
    layers = {found.module: found for found in weight_layers(model)}
    rows = []
    for name, module in model.named_modules():
        if module in layers:
            rows.append(_weight_row(layers[module]))
        elif matrices := _matrices(module):
            reason = f"no rule for this kind; {', '.join(matrices)}: by backprop"
            rows.append(Row(name, _kind(module), None, None, 0, reason))
    return Summary(tuple(rows))


def _weight_row(found: Found) -> Row:
    module: WeightLayer = found.module
    name, kind = found.name, _kind(module)
    if found.obstacle:
        return Row(name, kind, None, None, 0, found.obstacle)
    if not isinstance(module, FeedbackLayer):
        return Row(name, kind, None, None, 0, "a plain torch.nn layer")
    scale = None if isinstance(module.rule, Backprop) else module.feedback_scale
    held = 0 if module.feedback is None else module.feedback.numel()
    return Row(name, kind, module.rule.name, scale, held, "")


def _matrices(module: nn.Module) -> list[str]:
    """Return the names of a module's own parameters that have two axes or more to speak of."""
    if isinstance(module, parametrize.ParametrizationList):
        return []
    own = [(name, [p]) for name, p in module.named_parameters(recurse=False)]
    if parametrize.is_parametrized(module):
        chains = module.get_submodule("parametrizations").named_children()
        own += [(name, list(chain.parameters())) for name, chain in chains]
    return [name for name, parameters in own if any(map(_is_matrix, parameters))]


def _is_matrix(parameter: nn.Parameter) -> bool:
    lazy = nn.parameter.is_lazy(parameter)
    return not lazy and sum(size > 1 for size in parameter.shape) > 1


def _kind(module: nn.Module) -> str:
    kind = type(module)
    return (kind.__bases__[0] if parametrize.is_parametrized(module) else kind).__name__


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name or "(model)",
        row.kind,
        row.rule or "-",
        "-" if row.feedback_scale is None else f"{row.feedback_scale:.6g}",
        str(row.feedback_parameters),
    )
