"""Trains one recipe on several devices and writes down what it computed.

Used by test_keras_devices.py, as ``python keras_devices_driver.py FOLDER``: alone, on one device
and on two; in a launcher's environment, with the other processes.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.processes import ALONE_HERE, Processes, find_place
from antiparallel.benchmarks.recipes import RECIPES, Recipe
from antiparallel.benchmarks.signals import Signals
from antiparallel.benchmarks.stepper import build_stepper, join
from antiparallel.benchmarks.train import never, train

SIZE = {"epochs": 2, "depth": 3, "width": 4, "batch_size": 200, "checkpoint_every": 2}
SEED, LR, UPDATES = 5, 0.05, 3
BATCH = 57  # of validation: the last batch is one picture, so that a second process has none


def learn(recipe: Recipe, path: Path, processes: Processes) -> None:
    """Keep what some updates and a validation come to."""
    stepper = build_stepper("keras", recipe, SEED, digits(), processes)
    batches = digits().train_batches(
        seed=0,
        epoch=0,
        start=0,
        stop=UPDATES,
        batch_size=recipe.batch_size,
        part=processes.part,
    )
    trained = stepper.train(batches, LR, {})
    found = stepper.evaluate(digits().validation_batches(BATCH, processes.part))
    angles = {name: layer.angle for name, layer in stepper.diagnostics().items()}
    told = {"is": stepper.describe(), "angles": angles}
    path.with_suffix(".json").write_text(json.dumps(trained._asdict() | found._asdict() | told))
    np.savez(path.with_suffix(".npz"), **stepper.state())


def go_on(recipe: Recipe, path: Path, processes: Processes, stop: Callable[[], bool]) -> None:
    train(
        recipe,
        seed=SEED,
        out=path,
        backend="keras",
        resume=True,
        stop=stop,
        processes=processes,
    )


class SignalledAfter:
    """Whether a signal arrived, which this process sends itself once it was asked some times."""

    def __init__(self, times: int, signals: Signals) -> None:
        self.left = times
        self.signals = signals

    def __call__(self) -> bool:
        self.left -= 1
        if self.left == -1:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.signals()


def main() -> None:
    folder = Path(sys.argv[1])
    recipe = Recipe.model_validate(RECIPES["digits/convnet-fa"].model_dump() | SIZE)
    place = find_place(os.environ)
    if place == ALONE_HERE:
        for devices in (1, 2):
            with join("keras", recipe, place, devices=devices) as processes:
                learn(recipe, folder / f"{devices} devices", processes)
        return
    with Signals().caught() as signals, join("keras", recipe, place) as processes:
        rank = processes.part.rank
        learn(recipe, folder / f"process {rank}", processes)
        go_on(recipe, folder / "whole", processes, never)
        # Only the second process hears of it, before the fourth update.
        stop = SignalledAfter(4, signals) if rank == 1 else signals
        go_on(recipe, folder / "parts", processes, stop)
        go_on(recipe, folder / "parts", processes, never)


if __name__ == "__main__":
    main()
