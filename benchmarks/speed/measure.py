"""Time steps of several contenders in turns, so that whatever else slows a machine slows all alike.

Every round runs one step of each, in an order drawn anew. Contenders are compared within a round;
a second copy of plain backprop shows what such a comparison says where there is no difference.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import binom

from antiparallel.benchmarks.speed.contender import PLAIN, Contender

CONTROL = "control"
"""A second copy of plain backprop, which differs from the first by noise alone."""

WARM_UP = 3
"""Rounds before those that count: compilers and memory pools are at work in the first."""

SPLIT_EVERY = 3
"""In every third round the parts of a step are timed too."""

CONFIDENCE = 0.95

Clock = Callable[[], float]
Seconds = dict[str, tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]]


class Timings(BaseModel):
    """Seconds of each contender, round by round.

    Args:
        step: Of a whole step, in every round.
        gradients: Of the loss and all gradients, in every third round.
        forward: Of the loss alone, in the same rounds.
        update: Of the update alone, in the same rounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Seconds
    gradients: Seconds
    forward: Seconds
    update: Seconds


class Ratio(NamedTuple):
    """The median of the ratios within rounds, and where the true one lies with 95 % confidence.

    The interval's ends are two of the ratios themselves: how many lie below the true median is
    binomial, however they are distributed. Fewer than six bound it by nothing.

    Args:
        median: The median.
        low: The interval's lower end.
        high: The interval's upper end.
        n: How many rounds.
    """

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, measured: ArrayLike, plain: ArrayLike) -> Self:
        """Compare a contender's seconds with plain backprop's, both in the order of rounds."""
        ratios = np.sort(np.asarray(measured) / np.asarray(plain))
        n = len(ratios)
        # The most ratios that may be left out at either end.
        out = int(binom.ppf((1 - CONFIDENCE) / 2, n, 0.5))
        if not out:
            return cls(float(np.median(ratios)), 0.0, inf, n)
        return cls(float(np.median(ratios)), float(ratios[out - 1]), float(ratios[n - out]), n)


class Split(NamedTuple):
    """The parts of a step, in seconds: medians, of the backward pass a difference of them.

    Args:
        forward: The loss.
        backward: The gradients, once there is a loss.
        update: The update, once there are gradients.
    """

    forward: float
    backward: float
    update: float

    @classmethod
    def of(cls, timings: Timings, name: str) -> Self:
        """Split a contender's median step."""
        forward, gradients, update = (
            float(np.median(part[name]))
            for part in (timings.forward, timings.gradients, timings.update)
        )
        return cls(forward, gradients - forward, update)


def contenders_of(rules: Sequence[str], peers: Sequence[str] = ()) -> dict[str, str]:
    """Return what is measured, and what a builder is asked for, plain backprop first.

    Args:
        rules: Names of rules.
        peers: Other libraries, whose layers are measured under each rule.
    """
    others = [f"{peer}:{rule}" for peer in peers for rule in rules]
    return {PLAIN: PLAIN, CONTROL: PLAIN, **{name: name for name in (*rules, *others)}}


def measure(
    contenders: Mapping[str, Contender],
    *,
    rounds: int,
    seed: int,
    watch: Callable[[], None] = lambda: None,
    clock: Clock = time.perf_counter,
) -> Timings:
    """Time every contender's step in every round.

    Args:
        contenders: By name.
        rounds: Rounds that count; ``WARM_UP`` more come before.
        seed: Seed of the order, which is the same in each of several processes.
        watch: Called after every round.
        clock: Returns seconds.
    """
    order = random.Random(seed)
    seconds: dict[str, dict[str, list[float]]] = {
        part: {name: [] for name in contenders} for part in Timings.model_fields
    }
    for number in range(-WARM_UP, rounds):
        split = number < 0 or number % SPLIT_EVERY == 0
        work = [(part, name) for part in (seconds if split else ["step"]) for name in contenders]
        order.shuffle(work)
        for part, name in work:
            act = getattr(contenders[name], part)
            began = clock()
            act()
            ended = clock()
            if number >= 0:
                seconds[part][name].append(ended - began)
        watch()
    return Timings.model_validate(seconds)
