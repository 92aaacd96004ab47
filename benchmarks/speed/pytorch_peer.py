"""Another library's layers for PyTorch, measured beside ours where it is installed."""

import io
from contextlib import redirect_stdout

from torch import nn

from antiparallel.benchmarks.speed.case import Case
from antiparallel.spec import SpecError, as_rule

_MODES = {"bp": "backpropagation", "ss": "usf", "ss-fixed": "frsf", "ss-batch": "brsf", "fa": "fa"}
"""BioTorch's names of our rules."""


def convert_by_peer(model: nn.Module, case: Case, rule: str) -> nn.Module:
    """Give a network's layers a rule by BioTorch, which keeps their weights.

    It is compared on time and memory only: where the paper scales the feedback of ``ss`` by
    lambda, BioTorch takes the deviation of Xavier's initialisation, so losses differ.

    Args:
        model: A network of torch's own layers.
        case: What it is.
        rule: ``"biotorch:RULE"``.

    Raises:
        SpecError: There is no such peer or rule, it is not installed, or it cannot do that.
    """
    peer, _, name = rule.partition(":")
    if peer != "biotorch":
        raise SpecError(f"Expected biotorch, the one peer that there is. Received: peer={peer!r}")
    mode = _MODES.get(as_rule(name).name)
    if mode is None:
        raise SpecError(f"Expected a rule that BioTorch has: {', '.join(_MODES)}. Received: {rule}")
    _require_possible(case, rule)
    try:
        from biotorch.module.biomodule import BioModule
    except ModuleNotFoundError as error:
        raise SpecError(
            f"Expected {error.name} to be installed: pip install 'antiparallel[peer]'. "
            f"Received: rule={rule!r}"
        ) from error
    with redirect_stdout(io.StringIO()):  # it prints which layers it replaced
        converted: nn.Module = BioModule(model, mode=mode).module
    return converted


def _require_possible(case: Case, rule: str) -> None:
    obstacles = {
        "its dense layers take two dimensions": case.model == "vit",
        "it leaves no layer to backprop": case.model == "retinanet",
        "it computes gradients in one precision": case.precision != "float32",
        "its feedback would be spread over the processes": case.way == "fsdp2",
    }
    for obstacle, holds in obstacles.items():
        if holds:
            raise SpecError(
                f"Expected a case for BioTorch: {obstacle}. Received: rule={rule!r}, {case}"
            )
