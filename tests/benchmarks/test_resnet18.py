"""torchvision's ResNet-18 and KerasHub's are one network: same logits, gradients and losses.

Keras runs on each engine that is installed.
"""

from collections.abc import Callable

import numpy as np
import pytest
from resnet18_driver import EARLY, MUTANTS, STEPS
from scipy.stats import t as student

from antiparallel.benchmarks.models.resnet18 import keras_to_torch, torch_to_keras
from antiparallel.spec import SpecError

from .conftest import ENGINES, BothLibraries

pytest.importorskip("torchvision", exc_type=ImportError)
pytest.importorskip("antiparallel.torch", exc_type=ImportError)

LONGEST_SUM = 512 * 9
"""Terms in the longest sums: a 3x3 convolution of 512 channels. Each sum may be wrong by as many
roundings, and PyTorch and Keras add in different orders."""

Found = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> BothLibraries:
    """Train torchvision's network."""
    return BothLibraries("resnet18_driver.py", tmp_path_factory.mktemp("resnet18"))


@pytest.fixture(scope="module", params=ENGINES)
def found(both: BothLibraries, request: pytest.FixtureRequest) -> Callable[[str], Found]:
    """Train KerasHub's network on an engine."""
    return both.on(request.param)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", ["ss", "fa"])
def test_both_give_the_same_logits_and_the_same_gradients(
    found: Callable[[str], Found], rule: str, dtype: str
):
    torch, keras = found(f"torch-{rule}-{dtype}"), found(f"keras-{rule}-{dtype}")
    tolerance = LONGEST_SUM * float(np.finfo(dtype).eps)
    names = [name for name in torch if name.startswith("gradient/")]
    assert len(names) == 62
    for name in ("logits", *names):
        assert keras[name].shape == torch[name].shape
        difference = np.linalg.norm(keras[name] - torch[name]) / np.linalg.norm(torch[name])
        assert difference <= tolerance, name


@pytest.mark.parametrize("rule", ["ss", "fa"])
def test_both_have_the_same_first_20_losses_on_photographs_in_float64(
    found: Callable[[str], Found], rule: str
):
    exact, keras = found(f"torch-{rule}-float64"), found(f"keras-{rule}-float64")
    # How far one rounding of every weight leads the run astray, from float32's to float64's
    nudged = np.abs(found(f"losses-{rule}")["nudged"] - exact["losses"])
    finer = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)
    tolerance = LONGEST_SUM * finer * np.maximum.accumulate(nudged)
    assert len(keras["losses"]) == 20
    assert (np.abs(keras["losses"] - exact["losses"]) <= tolerance).all()


@pytest.mark.parametrize("steps", [EARLY, STEPS])
@pytest.mark.parametrize("rule", ["ss", "fa"])
def test_in_float32_keras_strays_no_further_than_rounding_leads_pytorch_itself(
    found: Callable[[str], Found], rule: str, steps: int
):
    exact, keras = found(f"torch-{rule}-float64")["losses"], found(f"keras-{rule}-float32")
    assert strayed(keras["losses"], exact, steps) <= limit(found(f"losses-{rule}"), exact, steps)


@pytest.mark.parametrize("rule", ["ss", "fa"])
def test_a_rule_that_is_wrong_in_one_place_strays_further(found: Callable[[str], Found], rule: str):
    exact, losses = found(f"torch-{rule}-float64")["losses"], found(f"losses-{rule}")
    for mutant in MUTANTS:
        assert strayed(losses[mutant], exact, EARLY) > limit(losses, exact, EARLY), mutant


def strayed(losses: np.ndarray, exact: np.ndarray, steps: int) -> float:
    """Return how far a run is from the exact losses: the mean logarithm over its first steps.

    Of each step counts the largest difference so far, at least one rounding. Logarithms, because
    differences grow by a product of many factors, and by jumps where a rectifier or a pooling
    maximum tips over.
    """
    rounding = np.finfo(np.float32).eps * np.abs(exact[:steps])
    away = np.maximum(np.abs(losses[:steps] - exact[:steps]), rounding)
    return float(np.log(np.maximum.accumulate(away)).mean())


def limit(losses: Found, exact: np.ndarray, steps: int) -> float:
    """Return how far rounding may lead a run astray: Student's prediction limit for one more run.

    Its samples are PyTorch's own float32 runs, which differ by one rounding of every weight at
    the start. A further such run exceeds it with a probability of 1 %.
    """
    samples = [strayed(losses[name], exact, steps) for name in losses if name.startswith("sample")]
    n = len(samples)
    quantile = float(student.ppf(0.99, n - 1))
    return float(np.mean(samples) + quantile * np.std(samples, ddof=1) * np.sqrt(1 + 1 / n))


def test_feedback_is_the_other_models_and_is_kept(found: Callable[[str], Found]):
    start, keras = found("torch-fa-float32"), found("keras-fa-float32")
    names = [name.removeprefix("end/") for name in keras if name.startswith("end/")]
    assert len(names) == 21
    for name in names:
        assert (keras[f"end/{name}"] == start[f"start/{name}"]).all()


def test_the_mappings_are_each_others_inverse_and_refuse_strangers():
    chance = np.random.default_rng(0)
    state = {
        "layer2.0.downsample.0.weight": chance.normal(size=(128, 64, 1, 1)),
        "layer2.0.downsample.1.running_var": chance.normal(size=128),
        "layer4.1.conv2.feedback": chance.normal(size=(512, 512, 3, 3)),
        "fc.weight": chance.normal(size=(10, 512)),
    }
    mapped = torch_to_keras(state | {"bn1.num_batches_tracked": np.array(3)})
    assert {name: array.shape for name, array in mapped.items()} == {
        "stack1_block0_0_conv/kernel": (1, 1, 64, 128),
        "stack1_block0_0_bn/moving_variance": (128,),
        "stack3_block1_2_conv/feedback": (3, 3, 512, 512),
        "predictions/kernel": (512, 10),
    }
    back = keras_to_torch(mapped)
    assert back.keys() == state.keys()
    assert all((back[name] == state[name]).all() for name in state)
    for mapping in (torch_to_keras, keras_to_torch):
        with pytest.raises(SpecError, match=r"Received: layer9\.weight"):
            mapping({"layer9.weight": np.zeros(1)})
