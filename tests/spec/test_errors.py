"""Chapter E: what must raise, what the message says, and that nothing changed."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from antiparallel.spec import (
    RULES,
    SGD,
    Backprop,
    Conv,
    ConvTranspose,
    Dense,
    FeedbackAlignment,
    Purpose,
    SGDConfig,
    SignSymmetry,
    SpecError,
    UnsupportedError,
    as_rule,
    backward,
    diagnose,
    draw,
    feedback_scale,
    forward,
    initial_weight,
    train,
)
from antiparallel.spec.contract import Backend, Network, Weighted
from antiparallel.spec.reference import backend
from antiparallel.spec.trainer import softmax_cross_entropy

LAYER, WEIGHT, BIAS = Dense(2, 3), np.ones((3, 2)), np.ones(3)
X, ERROR = np.ones((4, 2)), np.ones((4, 3))
CHAIN = Network((Weighted(LAYER, Backprop()),))
FLAT = Network(("flatten", *CHAIN.layers))
BATCH = (X, np.array([0, 1, 2, 0]))


def refuses(call: Callable[[], Any]) -> None:
    """Expect SpecError, in the form that E1 asks for."""
    with pytest.raises(SpecError) as caught:
        call()
    assert re.fullmatch(r"Expected .+\. Received: .+", str(caught.value), re.DOTALL)


@pytest.mark.clause("E1", "E2")
def test_the_errors_are_of_the_kinds_that_callers_catch() -> None:
    assert issubclass(SpecError, ValueError)
    assert issubclass(UnsupportedError, NotImplementedError)
    assert not issubclass(UnsupportedError, SpecError)


@pytest.mark.clause("E2")
def test_the_reference_is_a_backend_that_supports_everything() -> None:
    assert isinstance(backend, Backend)
    assert backend.name == "reference"
    assert not backend.unsupported


@pytest.mark.parametrize("rule", ["backprop", "", "SS", None, 3, Backprop])
@pytest.mark.clause("E1", "E3")
def test_unknown_rules_are_refused(rule: Any) -> None:
    refuses(lambda: as_rule(rule))
    refuses(lambda: backend.layer(LAYER, WEIGHT, BIAS, rule))


@pytest.mark.clause("E3")
def test_unknown_kinds_of_rules_are_refused() -> None:
    refuses(lambda: SignSymmetry(magnitude="large"))
    refuses(lambda: FeedbackAlignment(start="zeros"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: forward(LAYER, X, WEIGHT.T),
        lambda: forward(LAYER, X, WEIGHT, np.ones(2)),
        lambda: forward(LAYER, np.ones((4, 3)), WEIGHT),
        lambda: forward(LAYER, np.ones(()), WEIGHT),
        lambda: forward(LAYER, X.astype(np.float32), WEIGHT),
        lambda: forward(LAYER, X, WEIGHT, BIAS.astype(np.float32)),
        lambda: forward(LAYER, X.astype(np.float16), WEIGHT.astype(np.float16)),
        lambda: forward(LAYER, X, WEIGHT.astype(int)),
        lambda: forward(LAYER, X, WEIGHT.tolist()),
        lambda: forward(LAYER, X.tolist(), WEIGHT),
        lambda: forward(LAYER, X, WEIGHT, BIAS.tolist()),
        lambda: backward(LAYER, X, ERROR.tolist(), WEIGHT),
        lambda: backward(LAYER, X, np.ones((4, 2)), WEIGHT),
        lambda: backward(LAYER, X, np.ones((3, 3)), WEIGHT),
        lambda: backward(LAYER, X, ERROR.astype(np.float32), WEIGHT),
        lambda: backward(LAYER, X, ERROR, WEIGHT.T),
        lambda: forward(Conv(2, 2, (3,)), np.ones((2, 9)), np.ones((2, 2, 3))),
        lambda: forward(Conv(2, 2, (3,)), np.ones((1, 3, 9)), np.ones((2, 2, 3))),
        lambda: forward(Conv(2, 2, (3,), groups=2), np.ones((1, 2, 9)), np.ones((2, 2, 3))),
        lambda: backend.layer(LAYER, WEIGHT.T, None, "ss"),
        lambda: backend.layer(LAYER, WEIGHT, np.ones(2), "ss"),
        lambda: backend.layer(LAYER, WEIGHT.astype(int), None, "ss"),
        lambda: SGD(SGDConfig(0.1), {"p": X}).step({"p": X.T}),
        lambda: SGD(SGDConfig(0.1), {"p": X}).step({"p": X.astype(np.float32)}),
    ],
)
@pytest.mark.clause("E1", "E4")
def test_arrays_that_do_not_fit_are_refused(call: Callable[[], Any]) -> None:
    refuses(call)


@pytest.mark.parametrize("scale", ["code", 0, -1.0, float("inf"), float("nan"), True, None])
@pytest.mark.clause("E5")
def test_scales_that_are_none_are_refused(scale: Any) -> None:
    for geometry in (LAYER, Conv(1, 1, (1,))):
        refuses(lambda geometry=geometry: feedback_scale(geometry, scale))
    refuses(lambda: backend.layer(LAYER, WEIGHT, BIAS, "bp", scale=scale))
    refuses(lambda: initial_weight(LAYER, np.dtype(np.float32), scale=scale))


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, "1", True, None])
@pytest.mark.parametrize("name", ["seed", "index"])
@pytest.mark.clause("E6")
def test_seeds_and_indices_that_are_no_words_are_refused(name: str, value: Any) -> None:
    where = {"seed": 0, "index": 0} | {name: value}
    refuses(lambda: draw(LAYER, 1.0, purpose=Purpose.WEIGHT, **where))
    refuses(lambda: initial_weight(LAYER, np.dtype(np.float32), **where))
    for rule in RULES:  # also those that draw nothing
        refuses(lambda rule=rule: backend.layer(LAYER, WEIGHT, BIAS, rule, **where))


@pytest.mark.parametrize("value", [-1, 2**64, 1.5])
@pytest.mark.clause("E6")
def test_counts_that_are_no_words_are_refused(value: Any) -> None:
    refuses(lambda: draw(LAYER, 1.0, seed=0, index=0, purpose=Purpose.WEIGHT, count=value))


@pytest.mark.parametrize(
    "call",
    [
        lambda: Dense(0, 1),
        lambda: Dense(1, 2.0),
        lambda: Conv(1, True, (1,)),
        lambda: Conv(1, 1, ()),
        lambda: Conv(1, 1, (1, 1, 1, 1)),
        lambda: Conv(1, 1, 3),
        lambda: Conv(1, 1, (0,)),
        lambda: Conv(1, 1, (3,), stride=0),
        lambda: Conv(1, 1, (3,), stride=(1, 1)),
        lambda: Conv(1, 1, (3,), dilation=0),
        lambda: Conv(1, 1, (3,), padding=-1),
        lambda: Conv(1, 1, (3,), padding="full"),
        lambda: Conv(1, 1, (3,), padding=((1, 2, 3),)),
        lambda: Conv(1, 1, (3, 3), padding=(1,)),
        lambda: Conv(4, 4, (3,), groups=0),
        lambda: Conv(4, 6, (3,), groups=3),
        lambda: Conv(6, 4, (3,), groups=3),
        lambda: ConvTranspose(1, 1, (3,), padding="same"),
        lambda: ConvTranspose(1, 1, (3,), padding=-1),
        lambda: ConvTranspose(1, 1, (3,), output_padding=1),
        lambda: ConvTranspose(1, 1, (3,), stride=2, output_padding=-1),
        lambda: ConvTranspose(4, 6, (3,), groups=4),
        lambda: forward(Conv(1, 1, (3,)), np.ones((1, 1, 2)), np.ones((1, 1, 3))),
        lambda: forward(
            ConvTranspose(1, 1, (1,), padding=1), np.ones((1, 1, 2)), np.ones((1, 1, 1))
        ),
    ],
)
@pytest.mark.clause("E1", "E7")
def test_layers_that_cannot_be_are_refused(call: Callable[[], Any]) -> None:
    refuses(call)


def layer(rule: str, bias: bool = True, geometry: Dense = LAYER) -> Any:
    return backend.layer(
        geometry, np.ones(geometry.weight_shape), np.ones(geometry.n_out) if bias else None, rule
    )


@pytest.mark.parametrize(
    ("into", "state"),
    [
        (layer("ss"), layer("fa").state()),
        (layer("fa"), layer("ss").state()),
        (layer("fa"), layer("ss-fixed").state()),
        (layer("ss-batch"), layer("ss").state()),
        (layer("ss"), layer("ss", bias=False).state()),
        (layer("ss", bias=False), layer("ss").state()),
        (layer("ss"), layer("ss", geometry=Dense(3, 3)).state()),
        (layer("fa"), layer("fa").state() | {"feedback": np.ones((2, 2))}),
        (layer("ss-batch"), layer("ss-batch").state() | {"count": -1}),
        (layer("ss"), {}),
        (layer("ss"), layer("ss").state() | {"weight": WEIGHT.astype(np.float32)}),
    ],
)
@pytest.mark.clause("E8", "E10")
def test_checkpoints_of_other_layers_are_refused_and_change_nothing(
    into: Any, state: Mapping[str, Any]
) -> None:
    before = into.state()
    changed = {name: value + 1 if name == "weight" else value for name, value in state.items()}
    refuses(lambda: into.load_state(changed))
    after = into.state()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -0.1},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"lr": 0.1, "momentum": -0.5},
        {"lr": 0.1, "weight_decay": -1.0},
        {"lr": 0.1, "nesterov": True},
    ],
)
@pytest.mark.clause("E9")
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    refuses(lambda: SGDConfig(**settings))


@pytest.mark.clause("E9")
def test_names_of_no_parameter_are_refused() -> None:
    refuses(lambda: SGD(SGDConfig(0.1), {"a": X}, ["b"]))
    refuses(lambda: SGD(SGDConfig(0.1), {"a": X}).step({"b": X}))


@pytest.mark.clause("E10")
def test_a_refused_step_updates_nothing() -> None:
    optimizer = SGD(SGDConfig(lr=1.0, momentum=0.5), {"a": np.zeros(1), "b": np.zeros(1)})
    refuses(lambda: optimizer.step({"a": np.ones(1), "b": np.ones(2)}))
    assert optimizer.step({"a": np.ones(1)})["a"].tolist() == [-1.0]


@pytest.mark.clause("E10")
def test_a_refused_call_leaves_the_layer_as_it_was() -> None:
    one, other = layer("ss-batch"), layer("ss-batch")
    refuses(lambda: one.backward(X, ERROR.T))
    refuses(lambda: one.set_weight(WEIGHT.T))
    refuses(lambda: one.set_weight(WEIGHT.astype(np.float32)))
    assert np.array_equal(one.feedback(), other.feedback())
    assert np.array_equal(one.forward(X), other.forward(X))


@pytest.mark.parametrize(
    "call",
    [
        lambda: train(CHAIN, [], SGDConfig(0.1)),
        lambda: train(CHAIN, [(X, np.array([0, 1]))], SGDConfig(0.1)),
        lambda: train(CHAIN, [(X, np.array([0, 1, 2, 3]))], SGDConfig(0.1)),
        lambda: train(CHAIN, [(X, np.array([0, 1, 2, -1]))], SGDConfig(0.1)),
        lambda: train(CHAIN, [BATCH, (X.astype(np.float32), BATCH[1])], SGDConfig(0.1)),
        lambda: train(CHAIN, [(np.ones((0, 2)), np.zeros(0, np.int64))], SGDConfig(0.1)),
        lambda: train(FLAT, [(np.ones((0, 2)), np.zeros(0, np.int64))], SGDConfig(0.1)),
        lambda: train(CHAIN, [(X, np.array([0.0, 1.0, 2.0, 0.0]))], SGDConfig(0.1)),
        lambda: Network(("tanh",)),
        lambda: softmax_cross_entropy(np.ones((1, 2, 2)), np.array([0])),
    ],
)
@pytest.mark.clause("E11")
def test_batches_that_do_not_fit_are_refused(call: Callable[[], Any]) -> None:
    refuses(call)


@pytest.mark.clause("E12")
def test_measuring_w_against_feedback_of_another_shape_is_refused() -> None:
    refuses(lambda: diagnose(WEIGHT, WEIGHT.T))
