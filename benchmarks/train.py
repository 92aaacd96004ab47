"""Begin or resume one run in a folder."""

from collections.abc import Mapping
from pathlib import Path

from antiparallel.benchmarks.data import DATASETS
from antiparallel.benchmarks.loop import Stop, Training, Watch
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.record import Position, Record
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import build_stepper, engine_of, require_backend
from antiparallel.spec import SpecError
from antiparallel.spec.draws import require_word


def never() -> bool:
    """Never ask a run to stop."""
    return False


def unwatched(_: Position) -> None:
    """Do nothing with a run's progress."""


def train(
    recipe: Recipe,
    *,
    seed: int,
    out: Path,
    backend: str = "torch",
    overrides: Mapping[str, str] | None = None,
    resume: bool = False,
    stop: Stop = never,
    watch: Watch = unwatched,
) -> Record:
    """Train a recipe in a run folder, or go on with it.

    Args:
        recipe: The recipe, overrides applied.
        seed: Seed of initial weights, feedback and order of data, ``0 <= seed < 2**64``.
        out: The run's folder.
        backend: A key of ``STEPPERS``.
        overrides: What the command line changed in the recipe, for the record.
        resume: Go on with the run that the folder holds; without one, begin it.
        stop: Asked before every update; True ends the run after a checkpoint.
        watch: Told the position after every round.

    Returns:
        The record as written. A run that is complete or diverged already is not run again.

    Raises:
        SpecError: An argument is not allowed, the folder holds another run (or this one, without
            ``resume``), or another process works on it. The folder is then as it was.
    """
    require_word("seed", seed)
    require_backend(backend)
    wanted = Record(
        recipe=recipe,
        overrides=dict(overrides or {}),
        seed=seed,
        backend=backend,
        engine=engine_of(backend),
    )
    dataset = DATASETS[recipe.tier]()
    if recipe.batch_size > dataset.train_size:
        raise SpecError(
            f"Expected batch_size <= {dataset.train_size}. Received: batch_size={recipe.batch_size}"
        )
    folder = RunFolder(out)
    record = _recorded(folder, wanted, resume)
    if record.status in ("complete", "diverged"):
        return record
    stepper = build_stepper(backend, recipe, seed)  # before the folder exists: it may refuse
    with folder.held():
        record = _recorded(folder, wanted, resume)  # nobody else changes it any more
        return Training(record, stepper, dataset, folder, stop, watch).run()


def _recorded(folder: RunFolder, wanted: Record, resume: bool) -> Record:
    """Return the record to go on with: the folder's, or the wanted one of a new run."""
    if not folder.has_record():
        return wanted
    found = folder.read_record()
    for field in ("backend", "engine", "seed", "recipe"):
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
