"""The paper's claim that compares two tasks: on COCO sign-symmetry loses more than on ImageNet."""

from collections.abc import Sequence
from math import inf, nan, sqrt

import numpy as np
from scipy.special import stdtrit

from antiparallel.benchmarks.report.claims import (
    CONFIDENCE,
    Claim,
    Judgement,
    Over,
    Parts,
    block_means,
    seeds_with,
    verdict,
)
from antiparallel.benchmarks.report.measures import final_loss
from antiparallel.benchmarks.report.results import Experiment, SettingResult

_CLASSIFIED = ("imagenet", "imagenette", "cifar10")
"""Tiers to compare with: the first of them that is there."""

CLAIM = Claim(
    "The gap of sign-symmetry to backprop is larger than on ImageNet",
    "(ss - bp) / bp of an image tier's final training losses, minus the same of this tier's",
    {"ss": 1.0, "bp": -1.0},
    "Xiao et al. (2019), section 3.2",
)

CRITERION = (
    "The gaps of two experiments are no pairs: theirs is Welch's t-interval, over seeds of both, "
    "or with one seed in both over their blocks. The image tier is the first of "
    f"{', '.join(_CLASSIFIED)} among the runs reported, with the same backend and ResNet-18."
)


def judge_gap(experiment: Experiment, others: Sequence[Experiment]) -> Judgement | None:
    """Return a judgement on the claim; None if the experiment lacks ``bp`` or ``ss``.

    Args:
        experiment: A detector's.
        others: The experiments that are reported with it.
    """
    ours = _pair(experiment)
    if ours is None:
        return None
    other = _classified(others, experiment.backend)
    if other is None:
        remark = f"no runs of an image tier on {experiment.backend} in this report"
        return _undecided(nan, remark)
    theirs = _pair(other)
    assert theirs is not None
    (gap, over, seeds), (other_gap, other_over, other_seeds) = _gaps(*ours), _gaps(*theirs)
    mean = _mean(other_gap) - _mean(gap)
    against = f"against {other.name}: {_mean(other_gap):.1f} % there, {_mean(gap):.1f} % here"
    if over != other_over:
        return _undecided(mean, f"{against}; one seed here or there only")
    reach = _welch(gap, other_gap)
    common = tuple(sorted({*seeds, *other_seeds}))
    n = min(len(gap), len(other_gap))
    return Judgement(
        CLAIM,
        verdict(mean - reach, mean + reach),
        mean,
        mean - reach,
        mean + reach,
        "percent",
        common,
        over,
        n if n > 1 else 0,
        against,
    )


def _undecided(mean: float, remark: str) -> Judgement:
    return Judgement(CLAIM, "undecided", mean, -inf, inf, "percent", (), remark=remark)


def _classified(others: Sequence[Experiment], backend: str) -> Experiment | None:
    """Return the experiment to compare with."""
    found = {
        other.tier: other
        for other in others
        if (other.model, other.backend) == ("resnet18", backend) and _pair(other)
    }
    return next((found[tier] for tier in _CLASSIFIED if tier in found), None)


def _pair(experiment: Experiment) -> tuple[SettingResult, SettingResult] | None:
    """Return backprop's and sign-symmetry's results, if a seed has both."""
    results = {result.setting: result for result in experiment.settings}
    if not {"bp", "ss"} <= results.keys():
        return None
    pair = results["bp"], results["ss"]
    return pair if seeds_with(pair, final_loss) else None


def _gaps(bp: SettingResult, ss: SettingResult) -> tuple[Parts, Over, tuple[int, ...]]:
    """Return gaps in percent of backprop's loss: of each seed, or of each block of a single one."""
    seeds = seeds_with((bp, ss), final_loss)
    if len(seeds) > 1:
        losses = ((final_loss(bp.runs[seed]), final_loss(ss.runs[seed])) for seed in seeds)
        return np.array([100 * (theirs - ours) / ours for ours, theirs in losses]), "seeds", seeds
    ours, theirs = bp.runs[seeds[0]], ss.runs[seeds[0]]
    blocks, others = block_means(ours), block_means(theirs)
    if not len(blocks) or len(blocks) != len(others):
        blocks, others = (np.array([final_loss(run)]) for run in (ours, theirs))
    return 100 * (others - blocks) / blocks.mean(), "blocks", seeds


def _mean(values: Parts) -> float:
    return float(values.mean())


def _welch(one: Parts, other: Parts) -> float:
    """Return half the length of Welch's t-interval of a difference of means."""
    if min(len(one), len(other)) < 2:
        return inf
    ours, theirs = (float(values.var(ddof=1)) / len(values) for values in (one, other))
    total = ours + theirs
    if not total:
        return 0.0
    freedom = total**2 / (ours**2 / (len(one) - 1) + theirs**2 / (len(other) - 1))
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * sqrt(total)
