"""The paper's claims, as statements about numbers, with verdicts that can go either way.

Every claim says that a weighted sum is below zero: of final errors, or of a detector's final
losses. Its criterion is the same for all and was fixed before the runs: the 95 % t-interval of that
sum, paired over seeds; with a single seed, paired over parts of the run: validation pictures, or
blocks of updates.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan, nan, sqrt
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from antiparallel.benchmarks.report.measures import Task, final_loss, headline, last_tenth
from antiparallel.benchmarks.report.results import Experiment, SettingResult
from antiparallel.benchmarks.report.runs import Run

Verdict = Literal["supported", "not supported", "undecided"]
Over = Literal["seeds", "pictures", "blocks"]
Parts: TypeAlias = NDArray[np.float64]

CONFIDENCE = 0.95
BLOCKS = 10
SHORTEST_BLOCK = 100
"""Updates: ten times as many as momentum 0.9 remembers."""


@dataclass(frozen=True)
class Claim:
    """A statement that a weighted sum of a measure is below zero.

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
        mean: Mean of the sum over seeds.
        low: Lower end of its t-interval.
        high: Upper end.
        unit: What these are in.
        seeds: The seeds for which every setting involved has a complete run.
        over: What the interval is over: with a single seed, parts of its run.
        n: Over how many of them; 0 without an interval.
        remark: Why there is no interval, or what the claim was judged against.
    """

    claim: Claim
    verdict: Verdict
    mean: float
    low: float
    high: float
    unit: str
    seeds: tuple[int, ...]
    over: Over = "seeds"
    n: int = 0
    remark: str = ""


@dataclass(frozen=True)
class Evidence:
    """What claims about networks of a task are judged by.

    Args:
        of: Returns a complete run's number; nan where it has none.
        parts: Returns numbers whose mean it is, one for each part of the run, in an order that is
            the same for every setting; none where the run cannot be taken apart.
        over: What the parts are.
        unit: What the numbers are in.
        words: What the number is, in words.
        alone: What an interval over parts is, in words.
    """

    of: Callable[[Run], float]
    parts: Callable[[Run], Parts]
    over: Over
    unit: str
    words: str
    alone: str

    @property
    def criterion(self) -> str:
        """The criterion, in words."""
        return (
            f"For each seed, the claim's weighted sum of {self.words} is computed; seeds are "
            f"paired. The claim is supported if the {CONFIDENCE:.0%} t-interval of the mean of "
            "these sums lies below zero, not supported if it lies above, and undecided otherwise. "
            f"With one seed only, the interval is over {self.alone}, paired too: it tells these "
            "networks from each other, and cannot tell what another seed would do. Intervals are "
            "not corrected for the number of claims."
        )


def wrong_pictures(run: Run) -> Parts:
    """Return 100 for each validation picture taken for another class, 0 for the others."""
    answers, labels = (np.array(kept) for kept in (run.record.predictions, run.record.labels))
    return 100.0 * (answers != labels) if len(answers) == len(labels) else np.empty(0)


def block_means(run: Run) -> Parts:
    """Return the mean losses of ten equal blocks of the last tenth of the updates.

    Losses of neighbouring updates resemble each other, so that an interval over updates would be
    far too short; means over blocks that are long beside that resemblance hardly do ("batch means"
    in the simulation literature). Blocks are of 100 updates at least; of a shorter run there are
    none. The odd updates at the window's beginning are left out.

    With differences whose neighbours correlate by 0.9, as momentum makes them, the 95 % interval of
    4,000 updates holds the true mean in 95 of 100 simulated cases, one over updates in 35; by 0.99,
    in 91 and 11. Of 1,000 updates, in 94 with correlations of 0.9 and in 77 with 0.99.

    References:
        Schmeiser (1982), "Batch size effects in the analysis of simulation output", Operations
        Research 30.
    """
    losses = last_tenth(run.losses.get("loss", np.empty(0)))
    length = len(losses) // BLOCKS
    if length < SHORTEST_BLOCK:
        return np.empty(0)
    return np.asarray(losses[-BLOCKS * length :].reshape(BLOCKS, length).mean(1))


EVIDENCE: dict[Task, Evidence] = {
    "classification": Evidence(
        headline("classification").of,
        wrong_pictures,
        "pictures",
        "points",
        "final validation errors",
        "validation pictures",
    ),
    "detection": Evidence(
        final_loss,
        block_means,
        "blocks",
        "nats",
        "final training losses (total, mean of the last tenth of the iterations)",
        f"{BLOCKS} blocks of the last tenth of the iterations, each of {SHORTEST_BLOCK} or more",
    ),
}


_PAPER = "Xiao et al. (2019)"

_CLASSIFICATION = (
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


_DETECTION = (
    Claim(
        "Backprop's final loss is below sign-symmetry's",
        "bp - ss",
        {"bp": 1.0, "ss": -1.0},
        f"{_PAPER}, Figure 2",
    ),
    Claim(
        "Sign-symmetry's final loss is below feedback alignment's",
        "ss - fa",
        {"ss": 1.0, "fa": -1.0},
        f"{_PAPER}, Figure 2",
    ),
)

CLAIMS: dict[Task, tuple[Claim, ...]] = {
    "classification": _CLASSIFICATION,
    "detection": _DETECTION,
}


def judge(experiment: Experiment, claims: Sequence[Claim] | None = None) -> list[Judgement]:
    """Return a judgement on each claim whose settings the experiment has.

    Args:
        experiment: The experiment.
        claims: The claims; by default those about its task.
    """
    results = {result.setting: result for result in experiment.settings}
    return [
        _judge(claim, {s: results[s] for s in claim.weights}, EVIDENCE[experiment.task])
        for claim in (CLAIMS[experiment.task] if claims is None else claims)
        if claim.weights.keys() <= results.keys()
    ]


def _judge(claim: Claim, results: Mapping[str, SettingResult], evidence: Evidence) -> Judgement:
    seeds = seeds_with(results.values(), evidence.of)
    sums = np.array([_sum(claim, results, evidence.of, seed) for seed in seeds])
    mean = float(sums.mean()) if len(seeds) else nan
    over: Over = "seeds"
    if len(seeds) == 1:
        over, sums = evidence.over, _sum_of_parts(claim, results, evidence.parts, seeds[0])
    reach = _reach(sums)
    remark = "" if len(seeds) else "no seed has all the runs"
    if over != "seeds" and len(sums) < 2:
        remark = f"one seed, and no {over} of its runs to compare"
    return Judgement(
        claim,
        verdict(mean - reach, mean + reach),
        mean,
        mean - reach,
        mean + reach,
        evidence.unit,
        seeds,
        over,
        len(sums) if len(sums) > 1 else 0,
        remark,
    )


def seeds_with(results: Iterable[SettingResult], of: Callable[[Run], float]) -> tuple[int, ...]:
    """Return the seeds for which every setting has a complete run with a number."""
    found = [
        {seed for seed, run in result.runs.items() if not isnan(of(run))} for result in results
    ]
    return tuple(sorted(set.intersection(*found)))


def verdict(low: float, high: float) -> Verdict:
    """Return what an interval of a sum says of the claim that the sum is below zero."""
    if high < 0:
        return "supported"
    return "not supported" if low > 0 else "undecided"


def _sum(
    claim: Claim, results: Mapping[str, SettingResult], of: Callable[[Run], float], seed: int
) -> float:
    return sum(weight * of(results[s].runs[seed]) for s, weight in claim.weights.items())


def _sum_of_parts(
    claim: Claim, results: Mapping[str, SettingResult], of: Callable[[Run], Parts], seed: int
) -> Parts:
    """Return a claim's sum for each part of a seed's runs; none if they have not the same parts."""
    parts = {setting: of(result.runs[seed]) for setting, result in results.items()}
    if len({len(found) for found in parts.values()}) > 1:
        return np.empty(0)
    return np.asarray(sum(weight * parts[s] for s, weight in claim.weights.items()))


def _reach(sums: Parts) -> float:
    """Return half the length of the t-interval of a mean; infinite where there is none."""
    n = len(sums)
    if n < 2:
        return inf
    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))  # of Student's t
    return quantile * float(sums.std(ddof=1)) / sqrt(n)
