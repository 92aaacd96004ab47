"""Another library's layers for PyTorch, measured beside ours where it is installed."""

import io
from contextlib import redirect_stdout

from torch import nn

from antiparallel.benchmarks.speed.limits import PEERS
from antiparallel.spec import SpecError


def convert_by_peer(model: nn.Module, rule: str) -> nn.Module:
    """Give a network's layers a rule by BioTorch, which keeps their weights.

    It is compared on time and memory only: where the paper scales the feedback of ``ss`` by
    lambda, BioTorch takes the deviation of Xavier's initialisation, so losses differ.

    Args:
        model: A network of torch's own layers.
        rule: ``"biotorch:RULE"``.

    Raises:
        SpecError: It is not installed.
    """
    peer, _, name = rule.partition(":")
    try:
        from biotorch.module.biomodule import BioModule
    except ModuleNotFoundError as error:
        raise SpecError(
            f"Expected {error.name} to be installed: pip install 'antiparallel[peer]'. "
            f"Received: rule={rule!r}"
        ) from error
    with redirect_stdout(io.StringIO()):  # it prints which layers it replaced
        converted: nn.Module = BioModule(model, mode=PEERS[peer][name]).module
    return converted
