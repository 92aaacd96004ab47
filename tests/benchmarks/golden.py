"""The losses of every rule's first 100 updates, kept in golden.json.

A change of the network, of the data's order, of draws, rules or optimizer gives another curve. If
it is meant, ``python tests/benchmarks/golden.py`` writes the file anew (half a minute on one core),
and the change's description says why.

The curves are computed in float64 by the PyTorch stepper. How much of them other processors and
versions reproduce is measured: ``astray`` is how far one float32 rounding of every weight leads the
float64 run, at most so far. Roundings are amplified by orders of magnitude, and by jumps where a
rectifier tips over, so that float32 runs are compared over the first updates only.
"""

import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from antiparallel.benchmarks.data import Batch, digits
from antiparallel.benchmarks.recipes import Recipe, find_recipe, override
from antiparallel.benchmarks.stepper import Stepper, build_stepper

PATH = Path(__file__).with_name("golden.json")
RULES = ("bp", "ss", "ss-fixed", "ss-batch", "fa", "fa-sign")
UPDATES = 100
SEED = 0
EPS = float(np.finfo(np.float32).eps)


def recipe(rule: str) -> Recipe:
    return override(find_recipe("digits/convnet-bp"), {"rule": rule, "setting": "golden"})


def curve(stepper: Stepper, updates: int = UPDATES) -> list[float]:
    """Return the loss of each of a stepper's first updates."""
    settings = recipe("bp")
    trained = stepper.train(islice(batches(settings.batch_size), updates), settings.lr, {})
    return trained.losses["loss"]


def batches(size: int) -> Iterator[Batch]:
    steps = digits().train_size // size
    return chain.from_iterable(
        digits().train_batches(seed=SEED, epoch=epoch, start=0, stop=steps, batch_size=size)
        for epoch in range(UPDATES // steps + 1)
    )


def wide_stepper(rule: str, *, nudged: bool = False) -> Stepper:
    """Return PyTorch's stepper in float64, every weight off by a float32 rounding if nudged."""
    import torch

    stepper = build_stepper("torch", recipe(rule), SEED, digits())
    stepper._model.double()
    stepper._mean, stepper._deviation = stepper._mean.double(), stepper._deviation.double()
    if nudged:
        chance = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in stepper._model.parameters():
                weight *= 1 + EPS * (torch.randint(2, weight.shape, generator=chance) * 2 - 1)
    return stepper


def describe(rule: str) -> dict[str, list[float]]:
    exact = curve(wide_stepper(rule))
    nudged = curve(wide_stepper(rule, nudged=True))
    astray = np.maximum.accumulate(np.abs(np.array(nudged) - exact))
    return {"losses": exact, "astray": [float(f"{away:.3g}") for away in astray]}


def main() -> None:
    PATH.write_text(json.dumps({rule: describe(rule) for rule in RULES}, indent=1) + "\n")


if __name__ == "__main__":
    main()
