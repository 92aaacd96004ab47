"""What cannot be measured: told by a case alone, without its framework."""

from collections.abc import Mapping, Sequence

from antiparallel.benchmarks.speed.case import PROCESSES, Case, Way
from antiparallel.benchmarks.stepper import require_backend
from antiparallel.spec import SpecError

WAYS: Mapping[str, Sequence[Way]] = {
    "torch": ("alone", "accumulated", "checkpointed", *PROCESSES),
    "keras": ("alone", "accumulated", "checkpointed", "devices"),
}
"""The ways of training that each backend has."""

PEERS: Mapping[str, Mapping[str, str]] = {
    "biotorch": {
        "bp": "backpropagation",
        "ss": "usf",
        "ss-fixed": "frsf",
        "ss-batch": "brsf",
        "fa": "fa",
    }
}
"""Libraries on PyTorch that can be measured beside ours, and their names of our rules."""

_WHOLE = ("alone", "checkpointed")  # ways whose batches have one part
_PATCH = 16  # pixels, of ViT-B/16


def require_possible(case: Case, backend: str, rules: Sequence[str], peers: Sequence[str]) -> None:
    """Raise SpecError unless a backend can train a case, and every peer too.

    Args:
        case: What is measured.
        backend: A key of ``BUILDERS``.
        rules: Names of rules, under each of which a peer is measured.
        peers: Keys of ``PEERS``.
    """
    require_backend(backend)
    obstacles = {
        f"one of the ways that {backend} has, {', '.join(WAYS[backend])}": (
            case.way not in WAYS[backend]
        ),
        f"several parts for every way but {' and '.join(_WHOLE)}": (
            (case.way in _WHOLE) != (case.parts == 1)
        ),
        "batches that can be cut into equal parts": case.batch % case.parts != 0,
        f"a multiple of {_PATCH} pixels, the side of a ViT's patch": (
            case.model == "vit" and case.pixels % _PATCH != 0
        ),
        "no channels_last with fsdp2, whose fully_shard does not know it": (
            case.way == "fsdp2" and case.channels_last
        ),
        "--backend torch, which alone has a choice of memory formats and peers": (
            backend != "torch" and (case.channels_last or len(peers) > 0)
        ),
        # It computes layers again as a whole, so that only layers made of layers save memory; and
        # running averages in them leak out of JAX's trace, or are updated twice on torch.
        "--model vit with checkpointing in Keras, which spoils other networks' running averages": (
            backend == "keras" and case.way == "checkpointed" and case.model != "vit"
        ),
    }
    _require_none(obstacles, f"--backend {backend}, {case.name}")
    for peer in peers:
        _require_known(peer, case, rules)


def _require_known(peer: str, case: Case, rules: Sequence[str]) -> None:
    known = PEERS[peer]
    obstacles = {
        f"rules that {peer} has, {', '.join(known)}": not known.keys() >= set(rules),
        f"another network than vit for {peer}, whose dense layers take two dimensions": (
            case.model == "vit"
        ),
        f"another network than retinanet for {peer}, which leaves no layer to backprop": (
            case.model == "retinanet"
        ),
        f"float32 for {peer}, which computes gradients in one precision": (
            case.precision != "float32" or case.error_dtype is not None
        ),
        f"another way than fsdp2 for {peer}, whose feedback would be spread over the processes": (
            case.way == "fsdp2"
        ),
    }
    _require_none(obstacles, f"--peer {peer}, {', '.join(rules)}, {case.name}")


def _require_none(obstacles: Mapping[str, bool], received: str) -> None:
    for expected, holds in obstacles.items():
        if holds:
            raise SpecError(f"Expected {expected}. Received: {received}")
