"""What a run leaves behind: record.json."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from antiparallel.benchmarks.recipes import Recipe
from antiparallel.spec import SPEC_VERSION

Status = Literal["running", "stopped", "diverged", "complete"]


class _Frozen(BaseModel):
    # "constants": a kurtosis that does not exist is NaN, in the file too
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class LayerDiagnostics(_Frozen):
    """A layer's diagnostics: see ``antiparallel.spec.contract.Diagnostics``."""

    angle: float
    kurtosis: float
    magnitude: float


class Epoch(_Frozen):
    """What one epoch came to.

    Args:
        epoch: Its number, from 0.
        lr: Learning rate of its last update.
        train: Means over the training pictures, each before the update it took part in.
        validation: Means over the validation pictures, after the epoch; of a detector also its
            average precision, NaN for sizes of which there are no objects.
        diagnostics: Per weight layer, after the epoch.
        seconds: Time spent in it: training, validation, saving; work lost to a kill not counted.
        ended: When it ended, seconds since 1970.
        memory: Most memory used so far, in bytes: see ``Stepper``.
    """

    epoch: int
    lr: float
    train: dict[str, float]
    validation: dict[str, float]
    diagnostics: dict[str, LayerDiagnostics]
    seconds: float
    ended: float
    memory: int | None = None


class Position(_Frozen):
    """How far a run is.

    Args:
        epoch: Epochs completed.
        step: Updates made in the epoch that has begun.
        updates: Updates made in all.
        sums: Sums over the pictures of the epoch that has begun.
        losses: The losses of each of its updates: see ``stepper.Trained``.
        seconds: Time spent in the epoch that has begun.
        history: The epochs completed.
        predictions: The class that each validation picture was last taken for, if it has one.
    """

    epoch: int = Field(default=0, ge=0)
    step: int = Field(default=0, ge=0)
    updates: int = Field(default=0, ge=0)
    sums: dict[str, float] = {}
    losses: dict[str, tuple[float, ...]] = {}
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    history: tuple[Epoch, ...] = ()
    predictions: tuple[int, ...] = ()


class Origin(_Frozen):
    """The process that numbers come from.

    Args:
        started: When, in ISO 8601.
        command: The command line.
        host: The machine's description: no name, but processor, cores and system.
        versions: Of everything that matters to the numbers.
        commit: The git commit of the source tree it ran from, if any.
    """

    started: str
    command: str
    host: str
    versions: dict[str, str]
    commit: str | None


class Session(Origin):
    """One process that worked on the run.

    Args:
        from_update: The update from which it went on.
    """

    from_update: int


class Record(_Frozen):
    """The contents of record.json.

    Args:
        version: Version of this format; a reader refuses any other.
        recipe: The recipe as resolved.
        overrides: What the command line changed in it.
        seed: The seed.
        backend: The backend.
        engine: The engine that Keras runs on; None for a backend without a choice.
        data: What the pictures are: classes, numbers, a checksum of their names.
        status: ``"diverged"``: the loss was no longer finite; weights are those before that.
        diverged_at: The update, counted from 0, after whose loss that was found.
        epochs: One entry per completed epoch.
        labels: The class of each validation picture, if it has one.
        predictions: See ``Position``.
        sessions: The processes that worked on it, first one first.
    """

    version: Literal[1] = 1
    recipe: Recipe
    overrides: dict[str, str]
    seed: int
    backend: str
    engine: str | None = None
    data: dict[str, str] = {}
    status: Status = "running"
    diverged_at: int | None = None
    epochs: tuple[Epoch, ...] = ()
    labels: tuple[int, ...] = ()
    predictions: tuple[int, ...] = ()
    sessions: tuple[Session, ...] = ()

    @property
    def framework(self) -> str:
        """The backend with its engine, if it has a choice of them."""
        return framework(self.backend, self.engine)

    @property
    def name(self) -> str:
        """The run in a few words."""
        return f"{self.recipe.name} {self.framework} seed {self.seed}"

    @property
    def seconds(self) -> float:
        """Time spent in the completed epochs."""
        return sum(epoch.seconds for epoch in self.epochs)


class Found(_Frozen):
    """An object that was found in a picture, as COCO's format of results has it.

    Args:
        image_id: The picture's id.
        category_id: The category's id.
        bbox: Left, top, width and height, in pixels of the picture as it is on disk.
        score: How sure the network is, from 0 to 1.
    """

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


class ShownObject(_Frozen):
    """An object in a picture, as COCO annotates it.

    Args:
        category: Its category's id.
        box: Left, top, width and height, in pixels of the picture as it is on disk.
        crowd: Whether it stands for a crowd.
    """

    category: int
    box: tuple[float, float, float, float]
    crowd: bool = False


class ShownPicture(_Frozen):
    """A picture that a report shows, without its pixels.

    Args:
        image: Its id, as in ``detections.json``.
        name: Its file, below the data set's folder.
        width: In pixels.
        height: In pixels.
        objects: What is in it.
    """

    image: int
    name: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    objects: tuple[ShownObject, ...] = ()


class Shown(_Frozen):
    """The contents of shown.json: the truth about the first pictures that a run is evaluated on.

    A report can then draw detections where the data set is not at hand, and photographs need not
    be kept with the results.

    Args:
        categories: The name of every category, by its id.
        pictures: The pictures.
    """

    categories: dict[int, str]
    pictures: tuple[ShownPicture, ...]


def framework(backend: str, engine: str | None) -> str:
    """Return a backend with its engine in a word, as in folders' names: ``keras-jax``."""
    return f"{backend}-{engine}" if engine else backend


def describe_session(stepper: Mapping[str, str], from_update: int) -> Session:
    """Return the description of this process, which works on a run.

    Args:
        stepper: What the stepper says of itself.
        from_update: The update from which it goes on.
    """
    return Session(**describe_process(stepper).model_dump(), from_update=from_update)


def describe_process(backend: Mapping[str, str]) -> Origin:
    """Return the description of this process.

    Args:
        backend: What the backend says of itself.
    """
    versions = {
        "antiparallel": importlib.metadata.version("antiparallel"),
        "spec": SPEC_VERSION,
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        **backend,
    }
    return Origin(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_line(),
        host=describe_machine(),
        versions=versions,
        commit=_commit(),
    )


def command_line() -> str:
    """Return the command that started this process, as one could type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def describe_machine() -> str:
    """Return processor, cores and system; nothing that names the machine or its user."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def _commit() -> str | None:
    """Return the commit of the checkout this module is in, None for an installed wheel."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--dirty")


def _git(*arguments: str) -> str | None:
    # Without locks, which the user's own git would stumble over.
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
