"""Claims about detectors' losses are judged by numbers, and can fail."""

import re
from math import inf, isnan, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import binom, ttest_1samp, ttest_ind

from antiparallel.benchmarks.recipes import RECIPES
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.report.claims import BLOCKS, CLAIMS, Claim, block_means, judge
from antiparallel.benchmarks.report.gap import judge_gap
from antiparallel.benchmarks.report.measures import final_loss
from antiparallel.benchmarks.report.results import Experiment, gather
from antiparallel.benchmarks.report.runs import Run
from antiparallel.benchmarks.report.words import interval, judged_over

EPS = np.finfo(np.float64).eps


def run(name: str, losses: NDArray[np.float64], seed: int = 0, backend: str = "torch") -> Run:
    record = Record(
        recipe=RECIPES[name], overrides={}, seed=seed, backend=backend, status="complete"
    )
    return Run(record, {"loss": losses})


def detectors(losses: dict[str, list[NDArray[np.float64]]]) -> Experiment:
    """Return an experiment from the losses of each setting's seeds."""
    (made,) = gather(
        [
            run(f"coco/retinanet-{setting}", found, seed)
            for setting, seeds in losses.items()
            for seed, found in enumerate(seeds)
        ]
    )
    return made


def classifiers(
    losses: dict[str, list[float]], tier: str = "imagenette", backend: str = "torch"
) -> Experiment:
    """Return an experiment whose runs have one loss all along."""
    (made,) = gather(
        [
            run(f"{tier}/resnet18-{setting}", np.full(100, loss), seed, backend)
            for setting, seeds in losses.items()
            for seed, loss in enumerate(seeds)
        ]
    )
    return made


def constant(losses: list[float]) -> list[NDArray[np.float64]]:
    return [np.full(100, loss) for loss in losses]


def wandering(seed: int, mean: float, updates: int = 40_000) -> NDArray[np.float64]:
    """Return losses around a mean whose neighbours correlate by 0.9."""
    noise = np.random.default_rng(seed).normal(size=updates)
    return mean + 0.05 * np.asarray(lfilter([1], [1, -0.9], noise))


def verdicts(losses: dict[str, list[NDArray[np.float64]]]) -> dict[str, str]:
    return {judgement.claim.text: judgement.verdict for judgement in judge(detectors(losses))}


def test_losses_like_the_papers_support_both_claims():
    losses = {"bp": [0.5, 0.55, 0.52], "ss": [0.7, 0.72, 0.71], "fa": [1.1, 1.2, 1.0]}
    found = verdicts({setting: constant(seeds) for setting, seeds in losses.items()})
    assert list(found.values()) == ["supported", "supported"]


@pytest.mark.parametrize("claim", CLAIMS["detection"], ids=lambda claim: claim.text)
def test_a_claim_fails_when_the_runs_say_the_opposite(claim: Claim):
    opposite = {
        setting: constant([5 + claim.weights.get(setting, 0) + 0.01 * seed for seed in range(3)])
        for setting in ("bp", "ss", "fa")
    }
    assert verdicts(opposite)[claim.text] == "not supported"


@pytest.mark.parametrize("claim", CLAIMS["detection"], ids=lambda claim: claim.text)
def test_a_claim_is_undecided_when_seeds_disagree(claim: Claim):
    mixed = {
        setting: constant([5 + sign * claim.weights.get(setting, 0) for sign in (1, -1, 1, -1)])
        for setting in ("bp", "ss", "fa")
    }
    assert verdicts(mixed)[claim.text] == "undecided"


def test_only_the_last_tenth_of_the_updates_counts():
    late = np.concatenate([np.full(900, 9.0), np.full(100, 0.5)])
    assert final_loss(run("coco/retinanet-bp", late)) == 0.5
    assert isnan(final_loss(Run(run("coco/retinanet-bp", late).record)))


def test_blocks_are_ten_equal_parts_of_the_end_of_the_last_tenth():
    losses = np.arange(40_057.0)
    blocks = block_means(run("coco/retinanet-bp", losses))
    # The last tenth has 4,005 updates; the five odd ones at its beginning are left out.
    expected = [losses[end - 400 : end].mean() for end in range(36_457, 40_058, 400)]
    assert blocks == pytest.approx(expected, rel=400 * EPS)


def test_a_short_run_has_no_blocks_and_a_single_seed_of_it_decides_nothing():
    assert len(block_means(run("coco/retinanet-bp", np.ones(9_999)))) == 0
    assert len(block_means(run("coco/retinanet-bp", np.ones(10_000)))) == BLOCKS
    judged = judge(detectors({"bp": constant([0.5]), "ss": constant([0.9])}))
    assert [(one.verdict, one.low, one.high, one.n) for one in judged] == [
        ("undecided", -inf, inf, 0)
    ]
    assert "one seed" in judged[0].remark


def test_with_a_single_seed_the_interval_is_over_blocks_paired_by_their_batches():
    shared = wandering(0, 0.0)  # how hard each batch is
    losses = {"bp": [wandering(1, 0.5) + shared], "ss": [wandering(2, 0.8) + shared]}
    (judgement,) = judge(detectors(losses))
    differences = (losses["bp"][0] - losses["ss"][0])[-4000:].reshape(10, 400).mean(1)
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    # Means of 400 numbers below 3, and what an interval makes of them.
    tolerance = 3 * 400 * EPS * sqrt(BLOCKS)
    assert (judgement.low, judgement.high) == pytest.approx(tuple(expected), abs=tolerance)
    assert (judgement.verdict, judgement.over, judgement.n) == ("supported", "blocks", BLOCKS)


def test_two_trainings_alike_are_told_apart_as_rarely_as_the_interval_says():
    """Neighbouring updates correlate by 0.9: over updates two of three intervals would miss."""
    cases = 400
    noise = np.random.default_rng(3).normal(size=(2 * cases, 10_000))
    losses = 5 + lfilter([1], [1, -0.9], noise)
    # Of 40,000 updates only the last tenth matters.
    padded = np.full(36_000, 5.0)
    wrong = 0
    for ours, theirs in zip(losses[::2, -4000:], losses[1::2, -4000:], strict=True):
        made = {"bp": [np.append(padded, ours)], "ss": [np.append(padded, theirs)]}
        wrong += judge(detectors(made))[0].verdict != "undecided"
    # Were the error 5 %, more than this would be wrong in one of 1,000 such tests.
    assert wrong <= binom.ppf(0.999, cases, 0.05)
    over_updates = ttest_1samp(losses[::2, -4000:] - losses[1::2, -4000:], 0, axis=1).pvalue
    assert (over_updates < 0.05).mean() > 0.5


def test_a_gap_larger_than_on_imagenet_supports_the_claim_and_a_smaller_one_does_not():
    ours = detectors({"bp": constant([0.5, 0.5, 0.6]), "ss": constant([0.7, 0.72, 0.85])})
    for others, verdict in (([1.1, 1.12, 1.09], "supported"), ([1.8, 1.9, 1.85], "not supported")):
        other = classifiers({"bp": [1.0, 1.0, 1.0], "ss": others})
        judgement = judge_gap(ours, [ours, other])
        assert judgement is not None
        assert judgement.verdict == verdict
        gaps = [100 * (ss - bp) / bp for bp, ss in ((0.5, 0.7), (0.5, 0.72), (0.6, 0.85))]
        others_gaps = [100 * (loss - 1) for loss in others]
        expected = ttest_ind(others_gaps, gaps, equal_var=False).confidence_interval(0.95)
        # Percent below 100 of quotients of means of 10 numbers.
        tolerance = 100 * 100 * EPS
        assert (judgement.low, judgement.high) == pytest.approx(tuple(expected), abs=tolerance)


def test_a_gap_is_compared_on_the_same_backend_with_imagenet_if_it_is_there():
    ours = detectors({"bp": constant([0.5, 0.51]), "ss": constant([0.7, 0.71])})
    elsewhere = classifiers({"bp": [1, 1], "ss": [2, 2]}, backend="keras")
    judgement = judge_gap(ours, [ours, elsewhere])
    assert judgement is not None
    assert (judgement.verdict, isnan(judgement.mean)) == ("undecided", True)
    assert "no runs of an image tier on torch" in judgement.remark
    tiers = [classifiers({"bp": [1, 1], "ss": [2, 2]}, tier) for tier in ("cifar10", "imagenet")]
    judgement = judge_gap(ours, [ours, *tiers])
    assert judgement is not None
    assert "against imagenet/resnet18, torch" in judgement.remark


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_gap_with_one_seed_here_or_there_or_without_blocks_decides_nothing(seeds: int):
    ours = detectors({"bp": constant([0.5] * seeds), "ss": constant([0.9] * seeds)})
    judgement = judge_gap(ours, [classifiers({"bp": [1.0], "ss": [1.1]})])
    assert judgement is not None
    assert (judgement.verdict, judgement.low) == ("undecided", -inf)
    assert judgement.mean == pytest.approx(10 - 80, abs=100 * 100 * EPS)


def test_a_gap_of_one_seed_each_is_judged_over_blocks():
    ours = detectors({"bp": [wandering(1, 0.5)], "ss": [wandering(2, 0.8)]})
    (theirs,) = gather(
        [
            run("imagenet/resnet18-bp", wandering(3, 1.0)),
            run("imagenet/resnet18-ss", wandering(4, 1.1)),
        ]
    )
    judgement = judge_gap(ours, [theirs])
    assert judgement is not None
    assert (judgement.verdict, judgement.over, judgement.n) == ("supported", "blocks", BLOCKS)


def test_a_gap_over_blocks_is_not_compared_with_one_over_seeds():
    ours = detectors({"bp": [wandering(1, 0.5)], "ss": [wandering(2, 0.8)]})
    judgement = judge_gap(ours, [classifiers({"bp": [1.0, 1.01], "ss": [1.1, 1.12]})])
    assert judgement is not None
    assert (judgement.verdict, judgement.low) == ("undecided", -inf)
    assert "one seed here or there only" in judgement.remark


def test_an_experiment_without_sign_symmetry_has_no_gap():
    ours = detectors({"bp": constant([0.5]), "fa": constant([0.9])})
    assert judge_gap(ours, []) is None


def test_a_judgement_is_told_in_its_unit_with_what_it_is_over():
    losses = {"bp": [wandering(1, 0.5)], "ss": [wandering(2, 0.8)]}
    (over_blocks,) = judge(detectors(losses))
    assert re.fullmatch(r"-0\.\d{3} \[-0\.\d{3}, -0\.\d{3}\] nats", interval(over_blocks))
    assert judged_over(over_blocks) == "10 blocks"
    (without,) = judge(detectors({"bp": constant([0.5]), "ss": constant([0.9])}))
    assert (interval(without), judged_over(without)) == ("-0.400 nats, no interval", "1")
    gap = judge_gap(detectors(losses), [])
    assert gap is not None
    assert interval(gap) == "-"
