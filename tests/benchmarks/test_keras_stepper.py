"""The Keras stepper trains the PyTorch stepper's network, and keeps all that goes on needs."""

from collections.abc import Callable

import numpy as np
import pytest

# First: TensorFlow, imported before PyTorch, can make PyTorch's import crash.
import antiparallel.benchmarks.steppers.pytorch
from antiparallel.benchmarks.data import Batch, digits
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import Stepper, build_stepper, engine_of
from antiparallel.spec import SpecError

pytestmark = pytest.mark.engine
Tiny = Callable[..., Recipe]
assert antiparallel.benchmarks.steppers.pytorch


def batches(count: int, epoch: int = 0) -> list[Batch]:
    drawn = digits().train_batches(seed=0, epoch=epoch, start=0, stop=count, batch_size=50)
    return list(drawn)


def equal(one: Stepper, other: Stepper) -> bool:
    ours, theirs = one.state(), other.state()
    assert ours.keys() == theirs.keys()
    return all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


@pytest.mark.parametrize("rule", ["ss", "fa", "fa-sign", "ss-fixed"])
def test_it_begins_with_pytorchs_numbers_and_takes_pytorchs_steps(tiny: Tiny, rule: str):
    recipe = tiny("ss", rule=rule)
    torch, keras = (build_stepper(backend, recipe, 5, digits()) for backend in ("torch", "keras"))
    entries = [("weight", "0", "")]
    if rule != "ss":
        kept = "magnitude" if rule == "ss-fixed" else "feedback"
        entries.append((kept, f"kernel_{kept}", ".feedback"))
    for layer in ("conv1", "conv2", "conv3", "fc"):
        for theirs, ours, part in entries:
            array = keras.state()[f"model/{layer}{part}/{ours}"]
            canonical = array.transpose(*(3, 2, 0, 1) if array.ndim == 4 else (1, 0))
            assert (canonical == torch.state()[f"model.{layer}.{theirs}"]).all()
    for batch in batches(3):
        sums = [stepper.train([batch], 0.01, {}).sums for stepper in (torch, keras)]
        # Sums of at most 8 * 8 * 50 numbers in other orders, in three layers and three steps
        tolerance = 9 * 3200 * float(np.finfo(np.float32).eps)
        assert sums[1]["loss"] == pytest.approx(sums[0]["loss"], rel=tolerance)
        assert sums[1]["error"] == pytest.approx(sums[0]["error"], abs=1)
    for number in (1, 2, 3):
        for theirs, ours in (("running_mean", "2"), ("running_var", "3")):
            one = torch.state()[f"model.norm{number}.{theirs}"]
            other = keras.state()[f"model/norm{number}/{ours}"]
            assert np.linalg.norm(one - other) <= tolerance * np.linalg.norm(one)


@pytest.mark.parametrize("rule", ["bp", "ss", "ss-fixed", "ss-batch", "fa", "fa-sign"])
def test_a_loaded_state_goes_on_bit_for_bit(tiny: Tiny, rule: str):
    recipe = tiny("ss", rule=rule)
    ours = build_stepper("keras", recipe, 1, digits())
    ours.train(batches(3), 0.05, {})
    theirs = build_stepper(
        "keras", recipe, 2, digits()
    )  # another seed: all must come from the state
    theirs.load_state(ours.state())
    assert equal(ours, theirs)
    sums = [stepper.train(batches(2, epoch=1), 0.05, {}) for stepper in (ours, theirs)]
    assert sums[0] == sums[1]
    assert equal(ours, theirs)


def test_sums_do_not_depend_on_where_rounds_end_and_evaluation_changes_nothing(tiny: Tiny):
    whole = build_stepper("keras", tiny("ss"), 0, digits()).train(batches(6), 0.05, {}).sums
    stepper, sums = build_stepper("keras", tiny("ss"), 0, digits()), {}
    for batch in batches(6):
        sums = stepper.train([batch], 0.05, sums).sums
        metrics, predictions = stepper.evaluate(digits().validation_batches(150))
        assert metrics["error"] == (predictions != digits().validation.labels).mean()
    assert sums == whole
    assert list(stepper.diagnostics()) == ["conv1", "conv2", "conv3", "fc"]


def test_the_engine_is_described_and_wrong_devices_are_refused(tiny: Tiny):
    described = build_stepper("keras", tiny(), 0, digits()).describe()
    assert described["engine"] == engine_of("keras")
    assert described["threads"] == "1"
    with pytest.raises(SpecError, match="Received: device='abacus'"):
        build_stepper("keras", tiny(device="abacus"), 0, digits())
