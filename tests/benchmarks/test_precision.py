"""In bfloat16, or compiled, a stepper takes the same steps but for rounding, on both backends."""

from collections.abc import Callable

import numpy as np
import pytest

# First: TensorFlow, imported before PyTorch, can make PyTorch's import crash.
import antiparallel.benchmarks.steppers.pytorch
from antiparallel.benchmarks.data import Batch, digits
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.benchmarks.stepper import build_stepper, engine_of

from .conftest import both_backends

Tiny = Callable[..., Recipe]
assert antiparallel.benchmarks.steppers.pytorch

KERAS_ON_TORCH = engine_of("keras") == "torch"


def batches() -> list[Batch]:
    return list(digits().train_batches(seed=0, epoch=0, start=0, stop=3, batch_size=50))


@both_backends
def test_mixed_precision_computes_in_bfloat16_and_keeps_weights_in_float32(
    tiny: Tiny, backend: str
):
    whole, mixed = (
        build_stepper(backend, tiny("ss", precision=precision), 0, digits())
        for precision in ("float32", "bfloat16")
    )
    losses = [stepper.train(batches(), 0.05, {}).losses["loss"] for stepper in (whole, mixed)]
    # Each of the four layers rounds what it gets and what it gives, to 2**-8.
    assert losses[1] == pytest.approx(losses[0], rel=8 * 2**-8)
    assert losses[1] != losses[0]
    assert {array.dtype for array in mixed.state().values()} == {
        array.dtype for array in whole.state().values()
    }
    assert np.isfinite(mixed.evaluate(digits().validation_batches(100)).metrics["loss"])


@both_backends
def test_errors_alone_are_rounded_where_the_recipe_says_so(tiny: Tiny, backend: str):
    exact, rounded = (
        build_stepper(backend, tiny("fa", error_dtype=dtype), 0, digits())
        for dtype in (None, "bfloat16")
    )
    losses = [stepper.train(batches(), 0.05, {}).losses["loss"] for stepper in (exact, rounded)]
    assert losses[1][0] == losses[0][0]  # nothing is rounded on the way forward
    assert losses[1] == pytest.approx(losses[0], rel=8 * 2**-8)
    assert losses[1] != losses[0]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    "backend",
    [
        "torch",
        pytest.param(
            "keras",
            marks=[pytest.mark.engine, *([pytest.mark.slow] if KERAS_ON_TORCH else [])],
        ),
    ],
)
def test_a_compiled_network_takes_the_same_steps(tiny: Tiny, backend: str):
    eager, compiled = (
        build_stepper(backend, tiny("ss", compiled=compiled), 0, digits())
        for compiled in (False, True)
    )
    losses = [stepper.train(batches(), 0.05, {}).losses["loss"] for stepper in (eager, compiled)]
    # Sums of at most 50 * 64 terms, in another order, over three steps
    assert losses[1] == pytest.approx(losses[0], rel=3 * 2**-24 * (50 * 64) ** 0.5)
