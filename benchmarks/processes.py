"""The processes that train one run together: which one this is, and what they agree on."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from antiparallel.benchmarks.data import WHOLE, Part
from antiparallel.spec import SpecError

Stop: TypeAlias = Callable[[], bool]
Result = TypeVar("Result")

_FIRST_PORT = 15000  # and 9,999 more, one of which a SLURM job's number chooses


class Place(NamedTuple):
    """What a launcher says of a process.

    Args:
        part: Which one of how many it is.
        local: Its number among those of its machine: the device that it takes.
        address: The host of the first process.
        port: Where the first process listens.
    """

    part: Part
    local: int
    address: str
    port: int


ALONE_HERE = Place(WHOLE, 0, "localhost", 0)
"""The place of a process that no launcher started."""


def find_place(environment: Mapping[str, str]) -> Place:
    """Return this process's place, from the environment that torchrun or srun made for it.

    A batch script has ``SLURM_NTASKS`` too, though it is but one process: only within a step,
    which ``srun`` begins, does SLURM say how many tasks the step has. A step of one task, as an
    interactive shell is, is no launcher.

    Raises:
        SpecError: The environment is incomplete, or it is none that a launcher makes.
    """
    names = {"rank": "RANK", "world": "WORLD_SIZE", "local": "LOCAL_RANK"}
    if "RANK" not in environment and environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        names = {
            "rank": "SLURM_PROCID",
            "world": "SLURM_STEP_NUM_TASKS",
            "local": "SLURM_LOCALID",
        }
    elif "RANK" not in environment:
        return ALONE_HERE
    found = {place: environment.get(name, "") for place, name in names.items()}
    received = ", ".join(f"{name}={environment.get(name)!r}" for name in names.values())
    if not all(number.isdecimal() for number in found.values()):
        raise SpecError(f"Expected the numbers that a launcher gives. Received: {received}")
    part = Part(int(found["rank"]), int(found["world"]))
    if part.rank >= part.world:
        raise SpecError(f"Expected a process's number below theirs. Received: {received}")
    address = environment.get("MASTER_ADDR") or _first_node(
        environment.get("SLURM_STEP_NODELIST", "localhost")
    )
    job = int(environment.get("SLURM_JOB_ID", "0")) % 10000
    port = environment.get("MASTER_PORT") or str(_FIRST_PORT + job)
    if not port.isdecimal():
        raise SpecError(f"Expected a port's number. Received: MASTER_PORT={port!r}")
    return Place(part, int(found["local"]), address, int(port))


def _first_node(nodes: str) -> str:
    """Return ``rack3n07`` for ``rack3n[07-09,12],rack4n01``, SLURM's way to write a list."""
    found = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\]([^\[,]*))?", nodes)
    if found is None:
        raise SpecError(f"Expected a list of nodes. Received: SLURM_STEP_NODELIST={nodes!r}")
    return "".join(part or "" for part in found.groups())


class Processes:
    """The processes that train one run, as one of them sees them. This one is alone.

    Args:
        part: Which one of how many this is.

    Attributes:
        devices: How many devices share a batch, all processes together.
    """

    def __init__(self, part: Part = WHOLE) -> None:
        self.part = part
        self.devices = part.world

    @property
    def leads(self) -> bool:
        """Whether this is the process that holds the run's folder and speaks to the user."""
        return self.part.rank == 0

    def gather(self, message: bytes) -> list[bytes]:
        """Return every process's message, in their order."""
        return [message]

    def agreed(self, stop: Stop) -> Stop:
        """Return the question whether to stop as all answer it, at the same update."""
        return stop

    def combine(self, sums: Sequence[float], means: Sequence[Any]) -> list[float]:
        """Return sums over the processes, and replace tensors by their means: once an update."""
        return list(sums)

    def spread(self, model: Any) -> Any:
        """Return a model whose backward pass averages gradients over the processes."""
        return model

    def describe(self) -> dict[str, str]:
        """Return how many there are and how they share the work, for the record."""
        return {}

    def together(self, act: Callable[[], Result]) -> Result:
        """Do something in every process; what one of them refuses, all do.

        Raises:
            SpecError, OSError: What the first process that refuses raised.
        """
        try:
            found = act()
        except (SpecError, OSError) as error:
            self._require_none_refused(error)
            raise
        self._require_none_refused(None)
        return found

    def told(self, act: Callable[[], bytes]) -> bytes:
        """Do something in the process that leads, and return in all what it came to there."""
        return self.gather(self.together(act if self.leads else bytes))[0]

    def _require_none_refused(self, error: Exception | None) -> None:
        kind = "" if error is None else "OSError" if isinstance(error, OSError) else "SpecError"
        messages = self.gather(json.dumps([kind, str(error)]).encode())
        for rank, (refused, text) in enumerate(map(json.loads, messages)):
            if refused and rank == self.part.rank:
                return
            if refused:
                raise {"OSError": OSError, "SpecError": SpecError}[refused](text) from error


ALONE = Processes()
"""One process, without any other."""
