"""Chapter E: what must raise, and that nothing is half done when it does."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf, nan
from typing import Any, get_args

import numpy as np

from antiparallel.conformance import strategies as draws
from antiparallel.conformance.cases import ArraysCase, LayerCase, SGDCase
from antiparallel.conformance.expectations import expect, expect_equal, expect_spec_error
from antiparallel.conformance.registry import check
from antiparallel.spec import Conv, ConvTranspose, Dense
from antiparallel.spec.contract import (
    Array,
    Backend,
    Capability,
    Network,
    SGDConfig,
    Weighted,
)
from antiparallel.spec.rules import Backprop

_CAPABILITIES: dict[Capability, LayerCase | SGDCase] = {
    "float64": LayerCase(Dense(2, 2), dtype="float64"),
    "dense-leading-dimensions": LayerCase(Dense(2, 2), dtype="float32", leading=(2, 3)),
    "convolution-1d": LayerCase(Conv(2, 2, (2,)), dtype="float32", spatial=(3,)),
    "convolution-3d": LayerCase(Conv(1, 1, (1, 1, 1)), dtype="float32", spatial=(2, 2, 2)),
    "transposed-convolution": LayerCase(
        ConvTranspose(2, 2, (2, 2)), dtype="float32", spatial=(3, 3)
    ),
    "groups": LayerCase(Conv(2, 2, (2, 2), groups=2), dtype="float32", spatial=(3, 3)),
    "groups-transposed": LayerCase(
        ConvTranspose(2, 2, (2, 2), groups=2), dtype="float32", spatial=(3, 3)
    ),
    "dilation": LayerCase(Conv(2, 2, (2, 2), dilation=2), dtype="float32", spatial=(4, 4)),
    "asymmetric-padding": LayerCase(
        Conv(2, 2, (2, 2), padding=((1, 0), (0, 2))), dtype="float32", spatial=(3, 3)
    ),
    "strided-same-padding": LayerCase(
        Conv(2, 2, (3, 3), stride=2, padding="same"), dtype="float32", spatial=(4, 4)
    ),
    "empty-batch": LayerCase(Dense(2, 2), dtype="float32", leading=(0,)),
    "rule-ss-fixed": LayerCase(Dense(2, 2), "ss-fixed", dtype="float32"),
    "rule-ss-batch": LayerCase(Dense(2, 2), "ss-batch", dtype="float32"),
    "rule-fa-sign": LayerCase(Dense(2, 2), "fa-sign", dtype="float32"),
    "batch-manhattan": SGDCase(SGDConfig(lr=0.1, batch_manhattan=True), dtype="float32"),
    "keep-signs": SGDCase(SGDConfig(lr=0.1, keep_signs=True), dtype="float32"),
}


@check("E2", case=tuple(_CAPABILITIES.values()))
def check_capabilities_work_or_are_refused(backend: Backend, case: LayerCase | SGDCase) -> None:
    """Each capability works; or it is declared unsupported, and raises UnsupportedError."""
    if isinstance(case, SGDCase):
        case.optimizer(backend).step(case.gradients_of(0))
    else:
        layer = case.layer(backend)
        layer.forward(case.x())
        layer.backward(case.x(), case.error())


@check("E2")
def check_unsupported_are_capabilities(backend: Backend) -> None:
    """What a backend declares unsupported is one of the contract's capabilities, with a reason."""
    for capability, reason in backend.unsupported.items():
        allowed = get_args(Capability)
        observed = f"{capability!r}: {reason!r}"
        expect(capability in allowed, observed, f"one of {allowed}", "unsupported")
        told = isinstance(reason, str) and bool(reason.strip())
        expect(told, observed, "a reason in words", "unsupported")


@check(
    "E3",
    may_compute=True,
    rule=("backprop", "SS", "", None, 3, ("ss",)),
    case=draws.layer_cases(rule="bp"),
)
def check_unknown_rule(backend: Backend, rule: Any, case: LayerCase) -> None:
    """A rule that the specification does not know is refused."""
    expect_spec_error(
        lambda: case.layer(backend, rule=rule),
        expected="a rule or one of the rules' names",
        call=case.call("rule", rule=rule),
    )


@check(
    "E5",
    may_compute=True,
    scale=("papers", 0, 0.0, -1.0, inf, nan, True, None, "1"),
    case=draws.layer_cases(rule=draws.sign_rules),
)
def check_bad_scale(backend: Backend, scale: Any, case: LayerCase) -> None:
    """A scale that is neither a convention nor a finite number > 0 is refused."""
    expected = "'paper', 'reference-code' or a finite number > 0"
    call = case.call("scale", scale=scale)
    expect_spec_error(lambda: case.layer(backend, scale=scale), expected=expected, call=call)


@check("E5", may_compute=True, scale=("papers", 0.0, -1.0, inf, nan, True, None))
def check_bad_scale_of_initial_weights(backend: Backend, scale: Any) -> None:
    """Initial weights of such a scale are refused as well."""
    expect_spec_error(
        lambda: backend.initial_weight(Dense(2, 3), np.dtype(np.float32), scale=scale),
        expected="'paper', 'reference-code' or a finite number > 0",
        call=f"initial_weight(Dense(2, 3), float32, scale={scale!r})",
    )


@check(
    "E6",
    may_compute=True,
    field=("seed", "index"),
    value=(-1, 2**64, 1.5, "0", None, True),
    case=draws.layer_cases(),
)
def check_bad_seed(backend: Backend, field: str, value: Any, case: LayerCase) -> None:
    """A seed or an index that is not an integer in [0, 2**64) is refused, under every rule."""
    expected, call = "an integer in [0, 2**64)", case.call(f"{field}={value!r}")
    expect_spec_error(lambda: case.layer(backend, **{field: value}), expected=expected, call=call)
    expect_spec_error(
        lambda: backend.initial_weight(case.geometry, np.dtype(case.dtype), **{field: value}),
        expected=expected,
        call=f"initial_weight({case.geometry}, {case.dtype}, {field}={value!r})",
    )


@check("E4", may_compute=True, case=draws.layer_cases())
def check_wrong_parameters(backend: Backend, case: LayerCase) -> None:
    """Weights and biases of another shape or dtype than the layer's are refused."""
    weight, other = case.weight(), _other_dtype(case)
    wrong: dict[str, dict[str, Array | None]] = {
        "weight with an axis more": {"weight": weight[None]},
        "weight with an output more": {"weight": np.concatenate([weight, weight[:1]])},
        "integer weight": {"weight": np.ones(weight.shape, np.int64), "bias": None},
        "float16 weight": {"weight": np.ones(weight.shape, np.float16), "bias": None},
        "bias with an output more": {"bias": np.zeros(len(weight) + 1, case.dtype)},
        "bias of another dtype": {"bias": np.zeros(len(weight), other)},
    }
    for what, arguments in wrong.items():
        expected = f"weights and bias in the layer's shapes, in one dtype; not a {what}"
        call = case.call(f"building with a {what}")
        expect_spec_error(partial(case.layer, backend, **arguments), expected=expected, call=call)


def _other_dtype(case: LayerCase) -> str:
    """Return a dtype that no backend may take for the case's; float64 may be unsupported."""
    return "float32" if case.dtype == "float64" else "float16"


@check("E4", may_compute=True, case=draws.layer_cases(activations="normal"))
def check_wrong_inputs_and_errors(backend: Backend, case: LayerCase) -> None:
    """Inputs and errors that do not fit the layer are refused, and the layer works on."""
    layer, x, error = case.layer(backend), case.x(), case.error()
    channels = -1 if isinstance(case.geometry, Dense) else 1
    wide = np.concatenate([x, x], axis=channels)
    other = _other_dtype(case)
    before = layer.feedback()
    calls: dict[str, Callable[[], object]] = {
        "forward(x) with twice the channels": lambda: layer.forward(wide),
        "forward(x) in another dtype": lambda: layer.forward(x.astype(other)),
        "backward(x, error) with twice the channels": lambda: layer.backward(wide, error),
        "backward(x, error) in another dtype": lambda: layer.backward(x.astype(other), error),
        "backward(x, error) with the error in another dtype": lambda: layer.backward(
            x, error.astype(other)
        ),
        "backward(x, error) with an axis more in the error": lambda: layer.backward(x, error[None]),
    }
    if not isinstance(case.geometry, Dense):
        calls["forward(x) without the batch axis"] = lambda: layer.forward(
            np.zeros(case.x_shape[1:], case.dtype)
        )
    for what, action in calls.items():
        expect_spec_error(action, expected="arrays that fit the layer", call=case.call(what))
    call = case.call("feedback() after refused calls")
    expect_equal(layer.feedback(), before, what="feedback", why="as before", call=call)


@check("E7", may_compute=True, case=draws.layer_cases(draws.large_kernels()))
def check_input_too_small(backend: Backend, case: LayerCase) -> None:
    """An input too small for one place of output is refused."""
    small = replace(case, spatial=(1,) * len(case.spatial))
    expect_spec_error(
        lambda: small.layer(backend).forward(small.x()),
        expected="an input large enough for one place of output",
        call=small.call("forward(x)"),
    )


@check("E10", may_compute=True, case=draws.layer_cases())
def check_wrong_new_weights(backend: Backend, case: LayerCase) -> None:
    """set_weight refuses what does not fit, and leaves the layer as it was."""
    layer, weight = case.layer(backend), case.weight(1)
    before = layer.forward(case.x())
    wrong = {
        "an axis more": weight[None],
        "an output more": np.concatenate([weight, weight[:1]]),
        "another dtype": np.ones(weight.shape, _other_dtype(case)),
    }
    for what, array in wrong.items():
        call = case.call(f"set_weight(weight) with {what}")
        expect_spec_error(
            partial(layer.set_weight, array),
            expected="weights in the layer's shape and dtype",
            call=call,
        )
        after = layer.forward(case.x())
        expect_equal(after, before, what="output", why="as before", call=call)


@check("E8", may_compute=True, case=draws.layer_cases(weights="normal"))
def check_wrong_state(backend: Backend, case: LayerCase) -> None:
    """A state of another rule, another shape, or with a bias too many or too few is refused."""
    layer = case.layer(backend)
    before = layer.feedback().copy()
    other_rule = "ss" if case.rule in ("fa", "fa-sign") else "fa"
    larger = Dense(case.geometry.n_in + 1, case.geometry.n_out + 1)
    foreign = {
        "another rule": replace(case, rule=other_rule),
        "another shape": LayerCase(larger, case.rule, case.dtype, bias=case.bias),
        "a layer with a bias too many or too few": replace(case, bias=not case.bias),
    }
    for what, other in foreign.items():
        state, call = other.layer(backend).state(), case.call(f"load_state(state of {what})")
        expect_spec_error(
            partial(layer.load_state, state),
            expected="a state of the same rule and layer",
            call=call,
        )
        expect_equal(layer.feedback(), before, what="feedback", why="as before", call=call)


@check("E10", may_compute=True, case=draws.sgd_cases(lr=0.1, weights="normal", gradients="normal"))
def check_wrong_gradients(backend: Backend, case: SGDCase) -> None:
    """Gradients that do not fit are refused, and no parameter is updated, not even the others."""
    optimizer, other = case.optimizer(backend), case.optimizer(backend)
    gradients = case.gradients_of(0)
    wrong: dict[str, dict[str, Array]] = {
        "an unknown name": gradients | {"nobody": gradients["weight"]},
        "a wrong shape": gradients | {"bias": gradients["weight"]},
        "another dtype": gradients | {"bias": gradients["bias"].astype(np.float16)},
    }
    for what, given in wrong.items():
        expect_spec_error(
            partial(optimizer.step, given),
            expected="gradients that fit the parameters",
            call=f"{case.call(0)} with {what}",
        )
    found, expected = optimizer.step(gradients), other.step(gradients)
    for name in expected:
        why = "as if the refused steps had not been tried"
        expect_equal(found[name], expected[name], what=name, why=why, call=case.call(0))


@check("E9", may_compute=True, case=draws.sgd_cases())
def check_unknown_biases(backend: Backend, case: SGDCase) -> None:
    """A bias that is not among the parameters is refused."""
    expect_spec_error(
        lambda: backend.sgd(case.config, case.parameters(), ["nobody"]),
        expected="biases among the parameters",
        call=f"sgd({case.config}, parameters, ['nobody'])",
    )


@check("E12", case=draws.arrays_cases())
def check_diagnostics_of_unlike_shapes(backend: Backend, case: ArraysCase) -> None:
    """Weights and feedback of different shapes have no diagnostics."""
    weight = case.weight()
    expect_spec_error(
        lambda: backend.diagnostics(weight, weight[None]),
        expected="feedback in the weights' shape",
        call=f"diagnostics(weight, feedback) of {weight.shape} and {weight[None].shape}",
    )


@check(
    "E11",
    may_compute=True,
    wrong=("no batch", "empty batch", "label too large", "negative label", "label less"),
)
def check_wrong_batches(backend: Backend, wrong: str) -> None:
    """Training without a batch, or with labels that do not fit, is refused."""
    network = Network((Weighted(Dense(2, 3), Backprop()),))
    x, labels = np.ones((4, 2), np.float32), np.array([0, 1, 2, 0])
    batches: dict[str, list[tuple[Array, Any]]] = {
        "no batch": [],
        "empty batch": [(x[:0], labels[:0])],
        "label too large": [(x, labels + 1)],
        "negative label": [(x, labels - 1)],
        "label less": [(x, labels[:3])],
    }
    expect_spec_error(
        lambda: backend.train(network, batches[wrong], SGDConfig(lr=0.1)),
        expected="batches that fit the network",
        call=f"train(network, batches, config) with: {wrong}",
    )
