"""What each of two processes does in the tests of shared runs; spawned, so imported by name."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from antiparallel.benchmarks.data import WHOLE, Batch, Part, digits
from antiparallel.benchmarks.models.pytorch import build as build_model
from antiparallel.benchmarks.processes import ALONE, Place, Processes
from antiparallel.benchmarks.recipes import RECIPES, Recipe
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.speed.pytorch_messages import Messages
from antiparallel.benchmarks.stepper import build_stepper
from antiparallel.benchmarks.steppers import pytorch
from antiparallel.benchmarks.train import train
from antiparallel.spec import SpecError

UPDATES, LR, SEED = 6, 0.05, 5
RULES = ("bp", "ss", "ss-fixed", "ss-batch", "fa", "fa-sign")
WAYS = {"replicated": False, "sharded": True}
SIZE = {"epochs": 2, "depth": 3, "width": 4, "batch_size": 200, "checkpoint_every": 2}


def recipe(rule: str = "fa", **changes: Any) -> Recipe:
    values = RECIPES["digits/convnet-fa"].model_dump() | SIZE | {"rule": rule} | changes
    return Recipe.model_validate(values)


def without_normalisation(settings: Recipe, channels: int, classes: int) -> nn.Module:
    """Build the digits' network such that no picture's answer depends on its batch."""
    model = build_model(settings, channels, classes)
    for name, module in list(model.named_children()):
        if isinstance(module, nn.BatchNorm2d):
            setattr(model, name, nn.Identity())
    return model


def batches(part: Part = WHOLE, epoch: int = 0) -> Iterable[Batch]:
    return digits().train_batches(
        seed=0, epoch=epoch, start=0, stop=UPDATES, batch_size=SIZE["batch_size"], part=part
    )


def learn(settings: Recipe, processes: Processes = ALONE) -> dict[str, Any]:
    """Return what some updates come to: losses, sums, the state, and the messages."""
    stepper = build_stepper("torch", settings, SEED, digits(), processes)
    first, *rest = batches(processes.part)
    trained = stepper.train([first], LR, {})
    losses = trained.losses["loss"]
    with Messages() as messages:
        trained = stepper.train(rest, LR, trained.sums)
    return {
        "losses": [*losses, *trained.losses["loss"]],
        "sums": trained.sums,
        "state": stepper.state(),
        "messages": messages.sent,
        "angles": {name: found.angle for name, found in stepper.diagnostics().items()},
    }


def evaluate(batch_size: int, processes: Processes = ALONE) -> dict[str, Any]:
    """Return what a network that tells some digits apart makes of the validation pictures."""
    trained = build_stepper("torch", recipe("bp"), SEED, digits())
    for epoch in range(5):
        trained.train(batches(epoch=epoch), LR, {})
    stepper = build_stepper("torch", recipe("bp"), SEED, digits(), processes)
    stepper.load_state(trained.state())
    return stepper.evaluate(digits().validation_batches(batch_size, processes.part))._asdict()


class After:
    """Ask for a stop when it has been asked about some times."""

    def __init__(self, times: float) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def go_on(folder: Path, processes: Processes, stop: Callable[[], bool], **changes: Any) -> Record:
    overrides = {field: str(value) for field, value in SIZE.items()}
    return train(
        recipe(**changes),
        seed=SEED,
        out=folder,
        overrides=overrides,
        resume=True,
        stop=stop,
        processes=processes,
    )


def refusal(folder: Path, processes: Processes, **changes: Any) -> str:
    try:
        go_on(folder, processes, After(np.inf), **changes)
    except (SpecError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def save(path: Path, found: dict[str, Any]) -> None:
    state = found.pop("state", {})
    np.savez(path.with_suffix(".npz"), **state)
    path.with_suffix(".json").write_text(json.dumps(found))


def work(rank: int, ports: tuple[int, int], folder: Path) -> None:
    for (way, sharded), port in zip(WAYS.items(), ports, strict=True):
        place = Place(Part(rank, 2), rank, "localhost", port)
        with pytorch.joined(place, recipe(), 1, sharded) as processes:
            told = folder / f"rank{rank}" / way
            told.mkdir(parents=True)
            save(told / "normalised", learn(recipe("ss"), processes))
            save(told / "odd", evaluate(7, processes))
            save(told / "refused", {"text": refusal(told / "uneven", processes, batch_size=201)})
            # What only one process refuses: its batch is larger than the data set.
            apart = refusal(told / "uneven", processes, batch_size=(200, 5000)[rank])
            save(told / "apart", {"text": apart})
            runs = folder / "runs"
            go_on(runs / f"whole-{way}", processes, After(np.inf))
            # Only the second process is asked to stop, after the third update.
            stop = After(2 if rank else np.inf)
            go_on(runs / f"parts-{way}", processes, stop)
            go_on(runs / f"parts-{way}", processes, After(np.inf))
            save(told / "other", {"text": refusal(runs / f"whole-{way}", processes, lr=1.0)})
            below = runs / f"whole-{way}" / "record.json" / "below"
            save(told / "unwritable", {"text": refusal(below, processes)})
            pytorch.build_model = without_normalisation
            for rule in RULES:
                save(told / rule, learn(recipe(rule), processes))
            go_on(runs / "handed-on", processes, After(1))
            pytorch.build_model = build_model
