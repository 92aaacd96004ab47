"""What follows which rule in a model, and what does not and why."""

from dataclasses import dataclass
from math import prod

import keras

from antiparallel.keras.attachment import FeedbackState
from antiparallel.keras.inventory import Found, named_layers, weight_layers
from antiparallel.keras.layers import FeedbackLayer
from antiparallel.keras.layout import kernels
from antiparallel.spec import Backprop

_HEADER = ("layer", "kind", "rule", "lambda", "feedback parameters")


@dataclass(frozen=True)
class Row:
    """One layer that owns weights; a separable convolution has a row for each kernel.

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
    """The rows, in the order of the model; prints as a table."""

    rows: tuple[Row, ...]

    def __getitem__(self, name: str) -> Row:
        """Return the row of the layer with this name."""
        return next(row for row in self.rows if row.name == name)

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


def summary(model: keras.layers.Layer) -> Summary:
    """Return what every layer that owns weights does with the error.

    Args:
        model: Any model: converted, built of ``antiparallel.keras`` layers, or neither.

    Returns:
        A row for each weight layer, and for each other layer that owns a weight matrix
        (embeddings, recurrent cells), which has no rule.
    """
    layers = {id(found.module): found for found in weight_layers(model)}
    rows: list[Row] = []
    seen: set[int] = set()
    for name, layer in named_layers(model):
        if id(layer) in seen or isinstance(layer, FeedbackState):
            continue
        seen.add(id(layer))
        if id(layer) in layers:
            rows += _weight_rows(layers[id(layer)])
        elif matrices := _matrices(layer):
            reason = f"no rule for this kind; {', '.join(matrices)}: by backprop"
            rows.append(Row(name, type(layer).__name__, None, None, 0, reason))
    return Summary(tuple(rows))


def _weight_rows(found: Found) -> list[Row]:
    module = found.module
    name, kind = found.name, type(module).__name__
    if found.obstacle:
        return [Row(name, kind, None, None, 0, found.obstacle)]
    if not isinstance(module, FeedbackLayer):
        return [Row(name, kind, None, None, 0, "a plain keras layer")]
    if not module.built:
        return [Row(name, kind, module.rule.name, None, 0, "")]
    rows = []
    kept = module.feedback_state.matrices if module.feedback_state is not None else {}
    for kernel in kernels(module):
        scale = None if isinstance(module.rule, Backprop) else module.feedback_scale[kernel.name]
        held = prod(kernel.shape) if kernel.name in kept else 0
        label = name if kernel.name == "kernel" else f"{name}/{kernel.name}"
        rows.append(Row(label, kind, module.rule.name, scale, held, ""))
    return rows


def _matrices(layer: keras.layers.Layer) -> list[str]:
    """Return the names of a layer's own trainable variables with two axes to speak of."""
    return [
        variable.name
        for variable in layer._trainable_variables
        if sum(size > 1 for size in variable.shape) > 1
    ]


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name or "(model)",
        row.kind,
        row.rule or "-",
        "-" if row.feedback_scale is None else f"{row.feedback_scale:.6g}",
        str(row.feedback_parameters),
    )
