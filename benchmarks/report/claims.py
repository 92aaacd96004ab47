"""The paper's claims, as statements about numbers, with verdicts that can go either way.

Every claim says that a weighted sum of final errors is below zero. Its criterion is the same for
all and was fixed before the runs: the 95 % t-interval of that sum, paired over seeds; with a single
seed, paired over validation pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.report.results import Experiment, SettingResult

Verdict = Literal["supported", "not supported", "undecided"]

CONFIDENCE = 0.95
CRITERION = (
    "For each seed, the claim's weighted sum of final validation errors is computed; seeds are "
    f"paired. The claim is supported if the {CONFIDENCE:.0%} t-interval of the mean of these sums "
    "lies below zero, not supported if it lies above, and undecided otherwise. With one seed only, "
    "the interval is over validation pictures, paired too: it tells these networks from each "
    "other, and cannot tell what another seed would do. Intervals are not corrected for the number "
    "of claims."
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
        pictures: With a single seed, how many validation pictures the interval is over; else 0.
    """

    claim: Claim
    verdict: Verdict
    mean: float
    low: float
    high: float
    seeds: tuple[int, ...]
    pictures: int = 0


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
    results = {result.setting: result for result in experiment.settings}
    return [
        _judge(claim, {setting: results[setting] for setting in claim.weights})
        for claim in claims
        if claim.weights.keys() <= results.keys()
    ]


def _judge(claim: Claim, results: Mapping[str, SettingResult]) -> Judgement:
    seeds = tuple(sorted(set.intersection(*(set(result.runs) for result in results.values()))))
    errors = {setting: result.final_errors() for setting, result in results.items()}
    sums = np.array(
        [sum(weight * errors[s][seed] for s, weight in claim.weights.items()) for seed in seeds]
    )
    mean = float(sums.mean()) if len(seeds) else nan
    pictures = 0
    if len(seeds) == 1:
        runs = {setting: result.runs[seeds[0]] for setting, result in results.items()}
        sums = _sums_by_picture(claim, runs)
        pictures = len(sums)
    reach = _reach(sums)
    low, high = mean - reach, mean + reach
    verdict: Verdict = "undecided"
    if high < 0:
        verdict = "supported"
    elif low > 0:
        verdict = "not supported"
    return Judgement(claim, verdict, mean, low, high, seeds, pictures)


def _sums_by_picture(claim: Claim, runs: Mapping[str, Record]) -> NDArray[np.float64]:
    """Return a claim's sum for each validation picture; none if the records keep no answers."""
    sizes = {len(kept) for run in runs.values() for kept in (run.predictions, run.labels)}
    if len(sizes) > 1:
        return np.empty(0)
    wrong = {s: np.array(run.predictions) != np.array(run.labels) for s, run in runs.items()}
    return np.asarray(sum(100 * weight * wrong[s] for s, weight in claim.weights.items()))


def _reach(sums: NDArray[np.float64]) -> float:
    """Return half the length of the t-interval of a mean; infinite where there is none."""
    n = len(sums)
    if n < 2:
        return inf
    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))  # of Student's t
    return quantile * float(sums.std(ddof=1)) / sqrt(n)
