"""The PyTorch stepper builds what the recipe says and keeps all that the next update needs."""

from collections.abc import Callable

import numpy as np
import pytest

from antiparallel.benchmarks.data import Batch, digits
from antiparallel.benchmarks.recipes import Recipe, tier_recipes
from antiparallel.benchmarks.stepper import Stepper, build_stepper
from antiparallel.spec import Conv, Dense, SpecError, feedback_scale
from antiparallel.spec.draws import Purpose, draw

Tiny = Callable[..., Recipe]


def batches(count: int, epoch: int = 0) -> list[Batch]:
    drawn = digits().train_batches(seed=0, epoch=epoch, start=0, stop=count, batch_size=50)
    return list(drawn)


def equal(one: Stepper, other: Stepper) -> bool:
    ours, theirs = one.state(), other.state()
    assert ours.keys() == theirs.keys()
    return all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_initial_weights_and_feedback_are_the_specifications(tiny: Tiny):
    state = build_stepper("torch", tiny("fa"), 5, digits()).state()
    for index, (name, geometry) in enumerate(
        [
            ("conv1", Conv(1, 4, (3, 3))),
            ("conv2", Conv(4, 4, (3, 3))),
            ("conv3", Conv(4, 4, (3, 3))),
            ("fc", Dense(4, 10)),
        ]
    ):
        scale = feedback_scale(geometry)
        for entry, purpose in (("weight", Purpose.WEIGHT), ("feedback", Purpose.FEEDBACK)):
            drawn = draw(geometry, scale, seed=5, index=index, purpose=purpose)
            assert (state[f"model.{name}.{entry}"] == drawn.astype(np.float32)).all()


def test_every_recipe_builds_and_learns_through_its_rule():
    for recipe in tier_recipes("digits"):
        stepper = build_stepper("torch", recipe, 0, digits())
        before = stepper.state()
        stepper.train(batches(1), 0.1, {})
        after = stepper.state()
        for layer in ("conv1", "conv8", "fc"):
            assert (after[f"model.{layer}.weight"] != before[f"model.{layer}.weight"]).any()
        feedback = {name for name in after if name.endswith(".feedback")}
        layers = 0 if recipe.rule != "fa" else 8 + ("fc" not in recipe.overrides)
        assert len(feedback) == layers
        assert all((after[name] == before[name]).all() for name in feedback)


def test_rules_send_different_errors_back_from_the_same_start(tiny: Tiny):
    moved = {}
    for setting in ("bp", "ss", "fa"):
        stepper = build_stepper("torch", tiny(setting), 0, digits())
        start = stepper.state()
        stepper.train(batches(1), 0.1, {})
        moved[setting] = stepper.state()
        assert (start["model.conv1.weight"] != moved[setting]["model.conv1.weight"]).any()
    # The last layer's own gradient needs no feedback: the first update of it is the same.
    assert (moved["bp"]["model.fc.weight"] == moved["fa"]["model.fc.weight"]).all()
    assert (moved["bp"]["model.conv1.weight"] != moved["ss"]["model.conv1.weight"]).any()
    assert (moved["bp"]["model.conv1.weight"] != moved["fa"]["model.conv1.weight"]).any()


@pytest.mark.parametrize("rule", ["bp", "ss", "ss-fixed", "ss-batch", "fa", "fa-sign"])
def test_a_loaded_state_goes_on_bit_for_bit(tiny: Tiny, rule: str):
    recipe = tiny("ss", rule=rule)
    ours = build_stepper("torch", recipe, 1, digits())
    ours.train(batches(3), 0.05, {})
    theirs = build_stepper(
        "torch", recipe, 2, digits()
    )  # another seed: all must come from the state
    theirs.load_state(ours.state())
    assert equal(ours, theirs)
    sums = [stepper.train(batches(2, epoch=1), 0.05, {}) for stepper in (ours, theirs)]
    assert sums[0] == sums[1]
    assert equal(ours, theirs)


def test_sums_do_not_depend_on_where_rounds_end(tiny: Tiny):
    whole = build_stepper("torch", tiny("ss"), 0, digits()).train(batches(6), 0.05, {}).sums
    stepper, sums = build_stepper("torch", tiny("ss"), 0, digits()), {}
    for batch in batches(6):
        sums = stepper.train([batch], 0.05, sums).sums
    assert sums == whole
    assert sums["examples"] == 300


def test_evaluation_and_prediction_agree_and_change_nothing(tiny: Tiny):
    stepper, again = (build_stepper("torch", tiny("ss"), 0, digits()) for _ in range(2))
    for trained in (stepper, again):
        trained.train(batches(5), 0.05, {})
    held_out = digits().validation
    metrics, predictions = stepper.evaluate(digits().validation_batches(150))
    assert metrics["error"] == (predictions != held_out.labels).mean()
    stepper.diagnostics()
    assert equal(stepper, again)


def test_diagnostics_list_every_weight_layer_first_layer_first(tiny: Tiny):
    assert list(build_stepper("torch", tiny("fa"), 0, digits()).diagnostics()) == [
        "conv1",
        "conv2",
        "conv3",
        "fc",
    ]


def test_the_threads_are_the_recipes(tiny: Tiny):
    assert build_stepper("torch", tiny(), 0, digits()).describe()["threads"] == "1"


def test_a_device_that_is_not_there_is_refused(tiny: Tiny):
    with pytest.raises(SpecError, match="Received: device='abacus'"):
        build_stepper("torch", tiny(device="abacus"), 0, digits())


def test_a_pattern_that_matches_no_layer_is_refused(tiny: Tiny):
    with pytest.raises(SpecError, match="head"):
        build_stepper("torch", tiny(overrides={"head": "bp"}), 0, digits())


def test_an_unknown_backend_is_refused(tiny: Tiny):
    with pytest.raises(SpecError, match=r"torch, keras\. Received: backend='theano'"):
        build_stepper("theano", tiny(), 0, digits())
