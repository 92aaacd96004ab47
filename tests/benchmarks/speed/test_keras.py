"""What is timed on Keras is training as one would write it by hand, on every engine."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from antiparallel.benchmarks.models.networks import ConvNet
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.measure import measure
from antiparallel.benchmarks.speed.pictures import random_pictures
from antiparallel.benchmarks.stepper import engine_of
from antiparallel.spec import SpecError

torch = pytest.importorskip("torch", exc_type=ImportError)  # before TensorFlow
keras = pytest.importorskip("keras", exc_type=ImportError)
pytest.importorskip("keras_hub", exc_type=ImportError)

import antiparallel.keras as ap  # noqa: E402
from antiparallel.benchmarks.models.keras3 import convnet  # noqa: E402
from antiparallel.benchmarks.speed import keras3_networks  # noqa: E402
from antiparallel.benchmarks.speed.keras3 import (  # noqa: E402
    KerasContender,
    build,
    collectives,
    joined,
)
from antiparallel.benchmarks.speed.keras3_networks import network  # noqa: E402
from antiparallel.benchmarks.speed.keras3_passes import state_of  # noqa: E402
from antiparallel.keras.engines import engine  # noqa: E402

pytestmark = pytest.mark.engine

ENGINE = engine_of("keras")
EPS = float(np.finfo(np.float32).eps)
STEPS = 3
SIZES: dict[str, dict[str, Any]] = {
    "convnet": {"pixels": 8, "depth": 2, "width": 4},
    "alexnet": {"pixels": 63},
    "resnet18": {"pixels": 32},
    "resnet50": {"pixels": 32},
    "vit": {"pixels": 32},
    "retinanet": {"pixels": 160},
}
"""Of each network, so small that a step takes no time."""

BLOCKS = 2
ROUNDING = STEPS * 3 * 8 * 8 * 4 * EPS
"""Of sums over a batch's pixels in another order, in three layers and three steps."""

LARGE = [pytest.mark.slow] if ENGINE != "torch" else []
"""Networks of which compilers take tens of seconds."""

MODELS = [pytest.param(name, marks=LARGE if name != "convnet" else []) for name in SIZES]


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, size in {"num_layers": BLOCKS, "num_heads": 2, "hidden_dim": 8}.items():
        monkeypatch.setitem(keras3_networks.VIT_B16, name, size)
    with joined(case()):  # TensorFlow must know its threads first
        yield


def case(model: str = "convnet", **changes: Any) -> Case:
    settings = {"model": model, "batch": 4, "threads": 1, **SIZES[model]}
    return Case.model_validate(settings | changes)


def losses(contender: KerasContender, steps: int = STEPS) -> list[float]:
    found = []
    for _ in range(steps):
        contender.step()
        found.append(contender.loss)
    return found


class ByHand(NamedTuple):
    """What the small convnet learns.

    Args:
        losses: Of each step.
        gradients: Those of the first step.
        moves: How far the steps have moved each variable.
    """

    losses: list[float]
    gradients: list[NDArray[Any]]
    moves: list[NDArray[Any]]


def by_hand(rule: str, parts: int = 1) -> ByHand:
    """Train the small convnet without Keras's training."""
    model = convnet(ConvNet(3, 10, depth=2, width=4))
    if rule != "plain":
        ap.convert(model, rule, seed=0)
    ap.initialize(model, seed=0)
    images, labels, _ = random_pictures(case())
    shown = np.eye(10, dtype=np.float32)[labels]
    batches = [
        [keras.ops.convert_to_tensor(np.split(array, parts)[part]) for array in (images, shown)]
        for part in range(parts)
    ]
    start = arrays(variable.value for variable in model.trainable_variables)
    others = [variable.value for variable in model.non_trainable_variables]
    values, velocities = start, [np.zeros_like(value) for value in start]
    losses, first = [], []
    for _ in range(STEPS):
        seen = []
        for some, classes in batches:

            def loss(*values: Any, some: Any = some, classes: Any = classes) -> Any:
                logits, _ = model.stateless_call(list(values), others, some, training=True)
                return -keras.ops.mean(keras.ops.sum(classes * keras.ops.log_softmax(logits), 1))

            tensors = [keras.ops.convert_to_tensor(value) for value in values]
            seen.append(engine.pullback(loss, tensors, keras.ops.ones_like))
        losses.append(float(np.mean([float(loss) for loss, _ in seen])))
        sent = zip(*(arrays(gradients) for _, gradients in seen), strict=True)
        gradients = [np.mean(of_parts, 0) for of_parts in sent]
        first = first or gradients
        velocities = [0.9 * v - 1e-3 * g for v, g in zip(velocities, gradients, strict=True)]
        values = [value + v for value, v in zip(values, velocities, strict=True)]
    return ByHand(losses, first, [end - value for end, value in zip(values, start, strict=True)])


def arrays(tensors: Iterable[Any]) -> list[NDArray[Any]]:
    return [np.array(keras.ops.convert_to_numpy(tensor)) for tensor in tensors]


def moves(contender: KerasContender) -> tuple[list[float], list[NDArray[Any]]]:
    """Take some steps; return the losses, and how far they have moved each variable."""
    start = arrays(variable.value for variable in contender.model.trainable_variables)
    found = losses(contender)
    end = arrays(variable.value for variable in contender.model.trainable_variables)
    return found, [after - before for after, before in zip(end, start, strict=True)]


def assert_near(found: list[NDArray[Any]], expected: list[NDArray[Any]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert np.linalg.norm(one - other) <= 1e-3 * np.linalg.norm(other)


@pytest.mark.parametrize("rule", ["plain", "ss", "ss-fixed", "fa"])
def test_losses_gradients_and_updates_are_those_of_a_loop_written_by_hand(rule: str):
    expected = by_hand(rule)
    contender = build(case(), rule)
    contender.gradients()  # which must not be added to the next
    _, gradients = contender.passes.gradients(*contender.batches[0])
    assert_near(arrays(gradients), expected.gradients)
    found, moved = moves(contender)
    assert found == pytest.approx(expected.losses, rel=ROUNDING)
    assert_near(moved, expected.moves)


def test_gradients_of_parts_are_averaged_for_one_update():
    expected = by_hand("ss", parts=2)
    contender = build(case(way="accumulated", parts=2), "ss")
    found, moved = moves(contender)
    assert found == pytest.approx(expected.losses, rel=ROUNDING)
    assert_near(moved, expected.moves)
    assert contender.model.optimizer.iterations == STEPS
    whole = build(case(), "ss")
    whole.forward()
    assert abs(whole.loss - found[0]) > 1e-3  # a part is normalised by itself


@pytest.mark.parametrize("parts", [1, 2])
def test_an_update_is_that_of_keras_own_optimizer_with_gradients_of_zeros(parts: int):
    contender = build(case(way="accumulated" if parts > 1 else "alone", parts=parts), "fa")
    model = contender.model
    contender.step()
    before = arrays(variable.value for variable in model.trainable_variables)
    momentums = arrays(variable.value for variable in model.optimizer.momentums)
    contender.update()
    velocities = [np.float32(0.9) * momentum for momentum in momentums]
    assert any(velocity.any() for velocity in velocities)
    assert_near(arrays(variable.value for variable in model.optimizer.momentums), velocities)
    moved = [value + velocity for value, velocity in zip(before, velocities, strict=True)]
    for variable, expected in zip(model.trainable_variables, moved, strict=True):
        found = keras.ops.convert_to_numpy(variable.value)
        np.testing.assert_allclose(found, expected, rtol=2 * EPS, atol=EPS)
    assert model.optimizer.iterations == 2


def test_gradients_and_an_update_by_them_are_a_step():
    stepping, apart = build(case(), "fa"), build(case(), "fa")
    for _ in range(STEPS):
        stepping.step()
        _, gradients = apart.passes.gradients(*apart.batches[0])
        apart.passes.update(gradients)
    for one, other in zip(
        *(contender.model.trainable_variables for contender in (apart, stepping)), strict=True
    ):
        found, expected = (keras.ops.convert_to_numpy(each.value) for each in (one, other))
        np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=1e-6)


def test_every_part_of_a_step_is_timed():
    timings = measure({"plain": build(case(), "plain")}, rounds=4, seed=0)
    rounds = {part: len(seconds["plain"]) for part, seconds in timings}
    assert rounds == {"step": 4, "gradients": 2, "forward": 2, "update": 2}


def test_only_a_step_updates_weights():
    stepping, looking = build(case(), "fa"), build(case(), "fa")
    found = []
    for _ in range(STEPS):
        looking.forward()
        looking.gradients()
        looking.gradients()
        computed = looking.loss
        looking.step()
        assert looking.loss == pytest.approx(computed, rel=ROUNDING)
        found.append(looking.loss)
    assert found == losses(stepping)


def test_plain_and_its_control_learn_in_the_same_bits_and_bp_as_they():
    plain, control, bp = (losses(build(case(), rule)) for rule in ("plain", "plain", "bp"))
    assert plain == control
    assert bp == pytest.approx(plain, rel=ROUNDING)


@pytest.mark.parametrize("model", MODELS)
def test_every_rule_begins_with_plain_backprops_loss_and_learns_otherwise(model: str):
    plain, ss = (losses(build(case(model), rule), 2) for rule in ("plain", "ss"))
    assert plain[0] == pytest.approx(ss[0], rel=ROUNDING)
    assert abs(plain[1] - ss[1]) > 1e-6 * plain[0]


@pytest.mark.parametrize("model", ["convnet", pytest.param("vit", marks=LARGE)])
def test_a_step_computes_no_metric_but_the_loss(model: str):
    contender = build(case(model), "plain")
    contender.step()
    assert contender.model.get_metrics_result().keys() == {"loss"}


def test_plain_layers_are_the_librarys_and_a_rules_are_ours():
    for rule, known in (("plain", {None}), ("ss", {"ss"})):
        rows = ap.summary(network(case(), rule)).rows
        assert {row.rule for row in rows} == known


@pytest.mark.parametrize("model", [pytest.param("retinanet", marks=LARGE)])
def test_a_detectors_last_layers_learn_by_backprop_as_in_its_recipe(model: str):
    rows = ap.summary(network(case(model), "ss")).rows
    by_backprop = {row.name for row in rows if row.rule == "bp"}
    assert by_backprop == {"box_head/logits_layer", "classification_head/logits_layer"}
    assert {row.rule for row in rows} == {"bp", "ss"}


@pytest.mark.parametrize("model", [pytest.param("vit", marks=LARGE)])
def test_a_transformers_attention_and_blocks_follow_the_rule_and_its_places_do_not(model: str):
    rows = ap.summary(network(case(model), "ss")).rows
    assert [row.kind for row in rows if not row.converted] == ["Embedding"]
    assert Counter(row.kind for row in rows) == {
        "Conv2D": 1,  # of patches
        "Embedding": 1,
        "EinsumDense": 4 * BLOCKS,
        "Dense": 2 * BLOCKS + 1,
    }


def computed_again(contender: KerasContender, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many of a transformer's blocks are computed a second time going back."""
    if ENGINE == "jax":  # which computes anew what it traced once
        import jax

        trained, *others = state_of(contender.model)
        program = jax.make_jaxpr(contender.model.train_step)(
            (trained, *others), (*contender.batches[0], None)
        )
        return str(program).count("differentiated=True")  # of remat
    computed = Counter[str]()
    block = type(contender.model.backbone.layers[-1].encoder_layers[0])
    call = block.call

    def counted(self: Any, *arguments: Any, **settings: Any) -> Any:
        computed[self.name] += 1
        return call(self, *arguments, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(block, "call", counted)
        contender.gradients()
    return list(computed.values()).count(2)


def test_blocks_are_computed_again_and_nothing_changes(monkeypatch: pytest.MonkeyPatch):
    usual, again = (build(case("vit", way=way), "fa") for way in ("alone", "checkpointed"))
    assert computed_again(usual, monkeypatch) == 0
    assert computed_again(again, monkeypatch) == BLOCKS
    assert losses(again, 2) == pytest.approx(losses(usual, 2), rel=ROUNDING)


def test_the_policy_is_the_cases():
    usual, contender = (build(case(precision=name), "ss") for name in ("float32", "bfloat16"))
    layer = contender.model.get_layer("conv1")
    assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    assert usual.model.get_layer("conv1").compute_dtype == "float32"
    # Each of the three layers rounds what it gets and what it gives, to 2**-8.
    assert losses(contender, 2) == pytest.approx(losses(usual, 2), rel=6 * 2**-8)


def test_errors_are_rounded_if_the_case_says_so():
    contender = build(case(error_dtype="bfloat16"), "ss")
    layer = contender.model.get_layer("conv1")
    assert (layer.error_dtype, layer.compute_dtype) == ("bfloat16", "float32")


@pytest.mark.skipif(ENGINE != "tensorflow", reason="JAX compiles always, torch for minutes")
def test_a_compiled_step_is_the_same():
    usual, compiled = build(case(), "ss"), build(case(compiled=True), "ss")
    assert compiled.model.jit_compile
    assert not usual.model.jit_compile
    compiled.gradients()
    assert losses(compiled) == pytest.approx(losses(usual), rel=ROUNDING)


def test_it_says_what_it_ran_on():
    contender = build(case(), "ss")
    contender.forward()
    described = contender.describe()
    assert (described["keras"], described["engine"]) == (keras.__version__, ENGINE)
    assert (described["device"], described["threads"]) == ("cpu", "1")
    assert contender.memory() > 1 << 20


@pytest.mark.parametrize(
    ("settings", "rule", "message"),
    [
        (case(), "nonsense", "nonsense"),
        (case(device="abacus"), "ss", "device='abacus'"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: Case, rule: str, message: str):
    with pytest.raises(SpecError, match=message):
        build(settings, rule)


def test_devices_that_are_not_there_are_refused():
    keras.ops.zeros(())  # JAX has begun, with one device
    wanted = joined(case(way="devices", parts=2))
    with pytest.raises(SpecError, match=r"KERAS_BACKEND=|at most 1 devices"), wanted:
        pass


@pytest.mark.skipif(ENGINE != "jax", reason="Keras spreads steps over devices on JAX only")
def test_a_network_alone_sends_nothing():
    assert collectives(case(), "fa") == {"bytes": 0}


@pytest.mark.gpu
@pytest.mark.skipif(ENGINE != "torch", reason="the other engines are here for the CPU")
@pytest.mark.parametrize("rule", ["plain", "ss", "fa"])
def test_a_gpu_takes_the_same_steps_and_its_memory_counts(rule: str):
    usual, contender = build(case(), rule), build(case(device="cuda"), rule)
    assert losses(contender) == pytest.approx(losses(usual), rel=ROUNDING)
    assert contender.memory() == torch.cuda.max_memory_allocated()
