"""Begin or resume one run in a folder."""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from antiparallel.benchmarks.data import WHOLE, Dataset, digits
from antiparallel.benchmarks.data.coco import open_coco
from antiparallel.benchmarks.data.images import open_images
from antiparallel.benchmarks.data.splits import Watch as WatchCheck
from antiparallel.benchmarks.data.splits import unwatched as unwatched_check
from antiparallel.benchmarks.loop import Progress, Training, Watch
from antiparallel.benchmarks.models.backbone import backbone_weights
from antiparallel.benchmarks.processes import ALONE, Processes, Stop
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.shared_folder import SharedFolder
from antiparallel.benchmarks.stepper import build_stepper, engine_of, require_backend
from antiparallel.spec import SpecError
from antiparallel.spec.draws import require_word


def never() -> bool:
    """Never ask a run to stop."""
    return False


def unwatched(_: Progress) -> None:
    """Do nothing with a run's progress."""


class Data(NamedTuple):
    """Where pictures are and how they are read: nothing that the result depends on.

    Args:
        root: The data set's folder; None for the digits, which need none.
        workers: Processes that decode; 0 for none but this one.
        skip_bad_images: How many unreadable pictures may be left out.
    """

    root: Path | None = None
    workers: int = 0
    skip_bad_images: int = 0


NO_DATA = Data()
"""For the digits, which scikit-learn contains."""


def train(
    recipe: Recipe,
    *,
    seed: int,
    out: Path,
    backend: str = "torch",
    data: Data = NO_DATA,
    overrides: Mapping[str, str] | None = None,
    resume: bool = False,
    previous_checkpoint: bool = False,
    stop: Stop = never,
    watch: Watch = unwatched,
    watch_check: WatchCheck = unwatched_check,
    processes: Processes = ALONE,
) -> Record:
    """Train a recipe in a run folder, or go on with it.

    Args:
        recipe: The recipe, overrides applied.
        seed: Seed of initial weights, feedback and order of data, ``0 <= seed < 2**64``.
        out: The run's folder.
        backend: A key of ``STEPPERS``.
        data: Where the pictures are.
        overrides: What the command line changed in the recipe, for the record.
        resume: Go on with the run that the folder holds; without one, begin it.
        previous_checkpoint: If the newest checkpoint is damaged, go on from the one before.
        stop: Asked before every update; True ends the run after a checkpoint.
        watch: Told the progress.
        watch_check: Told how many pictures of how many were checked, before anything is trained.
        processes: This process and the others that train the run together, each of which calls
            this function.

    Returns:
        The record as written. A run that is complete or diverged already is not run again.

    Raises:
        SpecError: An argument is not allowed, the folder holds another run (or this one, without
            ``resume``), another process works on it, or its newest checkpoint is damaged. The
            folder is then as it was.
    """
    require_word("seed", seed)
    require_backend(backend)
    ours = RunFolder(out, previous_checkpoint=previous_checkpoint)
    # First of all: to look at every picture takes long.
    processes.together(lambda: ours.require_free() if processes.leads else None)
    opened = processes.together(lambda: open_dataset(recipe, data, watch_check))
    with closing(opened) as dataset:
        wanted = Record(
            recipe=recipe,
            overrides=dict(overrides or {}),
            seed=seed,
            backend=backend,
            engine=engine_of(backend),
            data=dataset.describe() | _backbone(recipe),
            labels=tuple(dataset.validation_labels.tolist()),
        )
        processes.together(lambda: _require_batches(recipe, dataset, processes))
        folder = ours if processes.part == WHOLE else SharedFolder(ours, processes)
        record = processes.together(lambda: _recorded(folder, wanted, resume))
        if record.status in ("complete", "diverged"):
            return record
        stepper = build_stepper(backend, recipe, seed, dataset, processes)  # first: it may refuse
        with folder.held():
            # Nobody else changes it any more.
            record = processes.together(lambda: _recorded(folder, wanted, resume))
            if (shown := dataset.shown()) is not None:
                folder.write_shown(shown)
            training = Training(
                record, stepper, dataset, folder, processes.agreed(stop), watch, processes.part
            )
            return training.run()


_CONTENTS = {False: "train and val", True: "COCO's annotations and pictures"}
"""What a data set's folder has in it, by whether detectors look at it."""


def open_dataset(recipe: Recipe, data: Data, watch_check: WatchCheck = unwatched_check) -> Dataset:
    """Return a recipe's pictures, checked.

    Raises:
        SpecError: A place is given for the digits, or none for others, or it is no data set.
    """
    preprocessing = recipe.preprocessing
    if (preprocessing is None) != (data.root is None):
        need = (
            "no --data: the digits are in scikit-learn"
            if preprocessing is None
            else f"--data DIR, the folder that has {_CONTENTS[recipe.model == 'retinanet']} in it"
        )
        raise SpecError(f"Expected {need}. Received: data={str(data.root or '')!r}")
    if preprocessing is None or data.root is None:
        return digits()
    if recipe.model == "retinanet":
        return open_coco(
            data.root,
            preprocessing,
            training_pictures=recipe.training_pictures,
            evaluated_on=recipe.evaluated_on,
            workers=data.workers,
            skip_bad_images=data.skip_bad_images,
            watch=watch_check,
        )
    return open_images(
        data.root,
        preprocessing,
        workers=data.workers,
        skip_bad_images=data.skip_bad_images,
        watch=watch_check,
    )


def _backbone(recipe: Recipe) -> dict[str, str]:
    """Return what the record says of the weights that a backbone begins with."""
    if recipe.backbone == "none":
        return {}
    return {"backbone": backbone_weights(recipe.backbone)[1]}


def _require_batches(recipe: Recipe, dataset: Dataset, processes: Processes) -> None:
    size, devices = recipe.batch_size, processes.devices
    pictures = json.dumps(dataset.describe()).encode()
    everybodys = processes.gather(pictures)  # first, so that no process refuses while others ask
    if size > dataset.train_size:
        raise SpecError(f"Expected batch_size <= {dataset.train_size}. Received: batch_size={size}")
    if size % devices:
        raise SpecError(
            f"Expected a batch_size that {devices} devices can share evenly. "
            f"Received: batch_size={size}"
        )
    if any(others != pictures for others in everybodys):
        raise SpecError(
            "Expected the same pictures in every process. "
            f"Received: {pictures.decode()} in process {processes.part.rank}"
        )


def _recorded(folder: RunFolder, wanted: Record, resume: bool) -> Record:
    """Return the record to go on with: the folder's, or the wanted one of a new run."""
    if not folder.has_record():
        return wanted
    found = folder.read_record()
    for field in ("backend", "engine", "seed", "recipe", "data"):
        ours, theirs = getattr(wanted, field), getattr(found, field)
        if ours != theirs:
            raise SpecError(
                f"Expected a folder with the same {field}, {_differences(ours, theirs)}. "
                f"Received: folder={str(folder.path)!r}"
            )
    if not resume:
        raise SpecError(
            "Expected a new folder, or --resume to go on with the run that it holds. "
            f"Received: folder={str(folder.path)!r}"
        )
    return found


def _differences(ours: object, theirs: object) -> str:
    if isinstance(ours, Recipe) and isinstance(theirs, Recipe):
        fields = [
            name for name in Recipe.model_fields if getattr(ours, name) != getattr(theirs, name)
        ]
        pairs = (
            f"{name} {getattr(theirs, name)!r}, not {getattr(ours, name)!r}" for name in fields
        )
        return "but it has " + ", ".join(pairs)
    return f"but it has {theirs!r}, not {ours!r}"
