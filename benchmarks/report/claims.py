"""The paper's claims, as statements about numbers, with verdicts that can go either way.

Every claim says that a weighted sum of final errors is below zero. Its criterion is the same for
all and was fixed before the runs: the 95 % t-interval of that sum, paired over seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from antiparallel.benchmarks.report.results import Experiment

Verdict = Literal["supported", "not supported", "undecided"]

CONFIDENCE = 0.95
CRITERION = (
    "For each seed, the claim's weighted sum of final validation errors is computed; seeds are "
    f"paired. The claim is supported if the {CONFIDENCE:.0%} t-interval of the mean of these sums "
    "lies below zero, not supported if it lies above, and undecided otherwise or with fewer than "
    "two seeds. Intervals are not corrected for the number of claims."
)


@dataclass(frozen=True)
class Claim:
    """A statement that a weighted sum of top-1 errors is below zero.

    Args:
        text: The claim, in words.
        formula: The sum, in words.
        weights: The sum: setting to weight.
        source: Where it is made.
    """

    text: str
    formula: str
    weights: dict[str, float]
    source: str


@dataclass(frozen=True)
class Judgement:
    """A claim with what the runs say about it.

    Args:
        claim: The claim.
        verdict: The verdict.
        mean: Mean of the sum over seeds, in percentage points.
        low: Lower end of its t-interval.
        high: Upper end.
        seeds: The seeds for which every setting involved has a complete run.
    """

    claim: Claim
    verdict: Verdict
    mean: float
    low: float
    high: float
    seeds: tuple[int, ...]


_PAPER = "Xiao et al. (2019)"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Sign-symmetry approaches backprop",
        "what ss loses to bp is less than a quarter of what fa loses: (ss - bp) - (fa - bp) / 4",
        {"ss": 1.0, "bp": -0.75, "fa": -0.25},
        f"{_PAPER}, abstract; the quarter is ours",
    ),
    Claim(
        "Feedback alignment falls behind backprop",
        "bp - fa",
        {"bp": 1.0, "fa": -1.0},
        f"{_PAPER}, Figure 1",
    ),
    Claim(
        "Sign-symmetry is better than feedback alignment",
        "ss - fa",
        {"ss": 1.0, "fa": -1.0},
        f"{_PAPER}, Figure 1",
    ),
    Claim(
        "Backprop in the last layer helps feedback alignment",
        "fa-lastbp - fa",
        {"fa-lastbp": 1.0, "fa": -1.0},
        f"{_PAPER}, Table 1",
    ),
    Claim(
        "Sign-symmetry is better than feedback alignment with backprop in the last layer of both",
        "ss-lastbp - fa-lastbp",
        {"ss-lastbp": 1.0, "fa-lastbp": -1.0},
        f"{_PAPER}, Table 1",
    ),
    Claim(
        "Backprop in the last layer helps sign-symmetry",
        "ss-lastbp - ss",
        {"ss-lastbp": 1.0, "ss": -1.0},
        "this project; with few classes lambda can be too large in the last layer",
    ),
)


def judge(experiment: Experiment, claims: Sequence[Claim] = CLAIMS) -> list[Judgement]:
    """Return a judgement on each claim whose settings the experiment has."""
    errors = {result.setting: result.final_errors() for result in experiment.settings}
    return [
        _judge(claim, {setting: errors[setting] for setting in claim.weights})
        for claim in claims
        if claim.weights.keys() <= errors.keys()
    ]


def _judge(claim: Claim, errors: dict[str, dict[int, float]]) -> Judgement:
    seeds = tuple(sorted(set.intersection(*(set(by_seed) for by_seed in errors.values()))))
    sums = np.array(
        [sum(weight * errors[s][seed] for s, weight in claim.weights.items()) for seed in seeds]
    )
    n = len(seeds)
    mean = float(sums.mean()) if n else nan
    reach = inf
    if n > 1:
        quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))  # of Student's t
        reach = quantile * float(sums.std(ddof=1)) / sqrt(n)
    low, high = mean - reach, mean + reach
    verdict: Verdict = "undecided"
    if high < 0:
        verdict = "supported"
    elif low > 0:
        verdict = "not supported"
    return Judgement(claim, verdict, mean, low, high, seeds)
