"""Claims are judged by numbers, and can fail."""

from math import inf, sqrt

import pytest
from scipy.stats import ttest_1samp

from antiparallel.benchmarks.recipes import RECIPES, SETTINGS
from antiparallel.benchmarks.record import Epoch, Record
from antiparallel.benchmarks.report.claims import CLAIMS, Claim, judge
from antiparallel.benchmarks.report.results import gather
from antiparallel.benchmarks.report.runs import Run

AS_IN_THE_PAPER = {
    "bp": [1.0, 1.5, 0.5, 1.0],
    "ss": [2.0, 2.5, 2.0, 1.5],
    "ss-lastbp": [1.5, 1.5, 1.5, 1.0],
    "fa": [13.0, 15.0, 12.0, 14.0],
    "fa-lastbp": [8.0, 9.0, 7.0, 8.5],
}


def experiment(errors: dict[str, list[float]]):
    return gather(
        [
            Run(run(setting, seed, error))
            for setting in errors
            for seed, error in enumerate(errors[setting])
        ]
    )[0]


def run(setting: str, seed: int, error: float) -> Record:
    metrics = {"error": error / 100, "loss": 0.1}
    epoch = Epoch(
        epoch=0, lr=1, train=metrics, validation=metrics, diagnostics={}, seconds=1, ended=1
    )
    recipe = RECIPES[f"digits/convnet-{setting}"]
    return Record(
        recipe=recipe, overrides={}, seed=seed, backend="torch", status="complete", epochs=(epoch,)
    )


def answering(setting: str, wrong: int, pictures: int = 1000) -> Run:
    """Return a run whose network takes its first pictures for another class."""
    record = run(setting, 0, 100 * wrong / pictures)
    answers = (1,) * wrong + (0,) * (pictures - wrong)
    return Run(record.model_copy(update={"predictions": answers, "labels": (0,) * pictures}))


def verdicts(errors: dict[str, list[float]]) -> dict[str, str]:
    return {judgement.claim.text: judgement.verdict for judgement in judge(experiment(errors))}


def test_runs_like_the_papers_support_every_claim():
    assert set(verdicts(AS_IN_THE_PAPER).values()) == {"supported"}


@pytest.mark.parametrize("claim", CLAIMS["classification"], ids=lambda claim: claim.text)
def test_every_claim_fails_when_the_runs_say_the_opposite(claim: Claim):
    opposite = {
        setting: [50 + 10 * claim.weights.get(setting, 0) + 0.1 * seed for seed in range(3)]
        for setting in SETTINGS
    }
    assert verdicts(opposite)[claim.text] == "not supported"


@pytest.mark.parametrize("claim", CLAIMS["classification"], ids=lambda claim: claim.text)
def test_every_claim_is_undecided_when_seeds_disagree(claim: Claim):
    mixed = {
        setting: [50 + sign * 10 * claim.weights.get(setting, 0) for sign in (1, -1, 1, -1)]
        for setting in SETTINGS
    }
    assert verdicts(mixed)[claim.text] == "undecided"


def test_weights_sum_to_zero_so_that_an_equal_error_everywhere_supports_nothing():
    assert all(sum(claim.weights.values()) == 0 for claims in CLAIMS.values() for claim in claims)
    assert "supported" not in verdicts({setting: [10.0, 10.0] for setting in SETTINGS}).values()


def test_the_interval_is_the_paired_t_interval():
    judgement = next(
        judgement
        for judgement in judge(experiment(AS_IN_THE_PAPER))
        if judgement.claim.weights == {"fa-lastbp": 1, "fa": -1}
    )
    differences = [
        a - b for a, b in zip(AS_IN_THE_PAPER["fa-lastbp"], AS_IN_THE_PAPER["fa"], strict=True)
    ]
    interval = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert judgement.seeds == (0, 1, 2, 3)
    # Percentages go through fractions and back: a few roundings of numbers below 100.
    tolerance = 1e-13 * sqrt(len(differences))
    assert (judgement.low, judgement.high) == pytest.approx(tuple(interval), abs=tolerance)


def test_one_seed_whose_records_keep_no_answers_decides_nothing():
    for judgement in judge(experiment({setting: [e[0]] for setting, e in AS_IN_THE_PAPER.items()})):
        assert judgement.verdict == "undecided"
        assert (judgement.low, judgement.high) == (-inf, inf)


def test_only_seeds_that_every_setting_has_are_compared():
    errors = AS_IN_THE_PAPER | {"fa": [13.0, 15.0]}
    by_text = {judgement.claim.text: judgement for judgement in judge(experiment(errors))}
    assert by_text["Feedback alignment falls behind backprop"].seeds == (0, 1)


def test_a_claim_about_a_setting_without_runs_is_not_judged():
    judged = judge(experiment({"bp": [1.0, 2.0], "fa": [9.0, 8.0]}))
    assert [set(judgement.claim.weights) for judgement in judged] == [{"bp", "fa"}]


def test_with_a_single_seed_the_interval_is_over_its_validation_pictures():
    runs = [answering("fa", 160), answering("fa-lastbp", 130)]
    (judgement,) = (j for j in judge(gather(runs)[0]) if "fa-lastbp" in j.claim.weights)
    sums = [0.0] * 130 + [-100.0] * 30 + [0.0] * 840
    interval = ttest_1samp(sums, 0).confidence_interval()
    assert (judgement.low, judgement.high) == pytest.approx(tuple(interval), rel=1e-12)
    assert (judgement.verdict, judgement.over, judgement.n) == ("supported", "pictures", 1000)
    assert judgement.mean == pytest.approx(-3)


def test_networks_that_hardly_differ_on_the_pictures_are_not_told_apart():
    runs = [answering("fa", 131), answering("fa-lastbp", 130)]
    (judgement,) = (j for j in judge(gather(runs)[0]) if "fa-lastbp" in j.claim.weights)
    assert judgement.verdict == "undecided"
