"""Chapter R: which matrix B is, rule by rule, and when it changes."""

from math import isnan

import numpy as np
from hypothesis import strategies as st

from antiparallel.conformance import linear_maps
from antiparallel.conformance import strategies as draws
from antiparallel.conformance.cases import LayerCase
from antiparallel.conformance.expectations import expect, expect_equal
from antiparallel.conformance.registry import check
from antiparallel.spec import ALIASES, RULES, feedback_scale
from antiparallel.spec.contract import Array, Backend
from antiparallel.spec.draws import Purpose, draw


def lambda_sign(case: LayerCase, weight: Array) -> Array:
    """Return ``lambda * sign(W)``, lambda rounded to the dtype."""
    scale = np.array(feedback_scale(case.geometry, case.scale)).astype(case.dtype)
    signs: Array = np.sign(weight)
    return scale * signs


def drawn(case: LayerCase, purpose: Purpose, count: int = 0) -> Array:
    """Return the specification's draw for the case's layer, rounded to the dtype."""
    scale = feedback_scale(case.geometry, case.scale)
    values = draw(
        case.geometry, scale, seed=case.seed, index=case.index, purpose=purpose, count=count
    )
    return values.astype(case.dtype)


@check("R1", case=draws.layer_cases(rule="bp"))
def check_bp_is_backpropagation(backend: Backend, case: LayerCase) -> None:
    """Under bp all gradients are those of backpropagation, and B is W after every update."""
    layer = case.layer(backend)
    for number in range(2):
        weight = case.weight(number)
        layer.set_weight(weight)
        call = case.call("backward(x, error)")
        found = layer.backward(case.x(), case.error())
        expected = linear_maps.gradients(case, weight)
        linear_maps.require_gradients(found, expected, why="backpropagation", call=call)
        call = case.call("feedback()")
        expect_equal(layer.feedback(), weight, what="feedback", why="W", call=call)


@check("R2", case=draws.layer_cases(rule="ss"))
def check_ss_follows_the_sign_of_w(backend: Backend, case: LayerCase) -> None:
    """Under ss B is ``lambda * sign(W)`` for the weights as they are now, after every update."""
    layer, call = case.layer(backend), case.call("feedback() after set_weight(weight)")
    for number in range(3):
        weight = case.weight(number)
        layer.set_weight(weight)
        why = "lambda * sign(W) of the weights as they are now"
        expect_equal(
            layer.feedback(), lambda_sign(case, weight), what="feedback", why=why, call=call
        )
        layer.backward(case.x(), case.error())


@check("R3", case=draws.layer_cases(rule="ss-fixed", weights="normal"))
def check_ss_fixed_keeps_its_magnitudes(backend: Backend, case: LayerCase) -> None:
    """Under ss-fixed B is ``M * sign(W)``: the signs follow W, the magnitudes never change."""
    layer, magnitude = case.layer(backend), np.abs(drawn(case, Purpose.FEEDBACK))
    for number in range(3):
        weight = case.weight(number)
        layer.set_weight(weight)
        expect_equal(
            layer.feedback(),
            magnitude * np.sign(weight),
            what="feedback",
            why="M * sign(W), M drawn once",
            call=case.call("feedback() after set_weight(weight) and backward(x, error)"),
        )
        layer.backward(case.x(), case.error())


@check("R4", case=draws.layer_cases(rule="ss-batch", weights="normal"))
def check_ss_batch_draws_anew_at_every_backward(backend: Backend, case: LayerCase) -> None:
    """Under ss-batch the t-th backward pass, from 0, uses the draw of count t."""
    layer, signs = case.layer(backend), np.sign(case.weight())
    for count in range(3):
        feedback = np.abs(drawn(case, Purpose.BATCH_MAGNITUDE, count)) * signs
        expected = linear_maps.gradients(case, feedback)
        found = layer.backward(case.x(), case.error())
        expected.input.require(
            found.input,
            what="input error",
            why="the error carried back by abs(draw of count t) * sign(W)",
            call=case.call(f"backward(x, error) number {count}"),
        )


@check("R4", case=draws.layer_cases(rule="ss-batch", weights="normal"))
def check_ss_batch_advances_only_at_backward(backend: Backend, case: LayerCase) -> None:
    """Under ss-batch neither feedback() nor forward nor an update draws anew."""
    layer = case.layer(backend)
    for count in range(2):
        layer.forward(case.x())
        layer.feedback()
        layer.set_weight(case.weight(count))
        expect_equal(
            layer.feedback(),
            np.abs(drawn(case, Purpose.BATCH_MAGNITUDE, count)) * np.sign(case.weight(count)),
            what="feedback",
            why=f"the draw of count {count}, the number of backward passes so far",
            call=case.call("feedback() after forward(x), feedback() and set_weight(weight)"),
        )
        layer.backward(case.x(), case.error())


@check("R5", case=draws.layer_cases(rule=st.sampled_from(["fa", "fa-sign"])))
def check_feedback_alignment_never_changes_b(backend: Backend, case: LayerCase) -> None:
    """Under fa and fa-sign neither updates of W nor backward passes change B."""
    layer = case.layer(backend)
    before = layer.feedback().copy()
    for number in range(1, 3):
        layer.set_weight(case.weight(number))
        layer.backward(case.x(), case.error())
        call = case.call("feedback() after set_weight(weight) and backward(x, error)")
        expect_equal(layer.feedback(), before, what="feedback", why="B as at the start", call=call)


@check("R6", may_compute=True, case=draws.layer_cases(rule="fa-sign"))
def check_fa_sign_starts_from_the_sign_of_w(backend: Backend, case: LayerCase) -> None:
    """Under fa-sign B is ``lambda * sign(W_0)``."""
    expected = lambda_sign(case, case.weight())
    observed, call = case.layer(backend).feedback(), case.call("feedback()")
    expect_equal(observed, expected, what="feedback", why="lambda * sign(W_0)", call=call)


@check("R7", may_compute=True, case=draws.layer_cases(weights="zeros", rule=draws.sign_rules))
def check_sign_of_zero_is_zero(backend: Backend, case: LayerCase) -> None:
    """Where a weight is zero, of either sign, B is zero under every rule that takes signs."""
    feedback, zero = case.layer(backend).feedback(), case.weight() == 0
    expected = np.where(zero, 0, feedback).astype(case.dtype)
    why = "zero where W is zero: sign(0) = 0"
    expect_equal(feedback, expected, what="feedback", why=why, call=case.call("feedback()"))


@check("R7", may_compute=True, case=draws.layer_cases(weights="subnormal", rule=draws.sign_rules))
def check_subnormal_weights_have_signs(backend: Backend, case: LayerCase) -> None:
    """The smallest weights have their sign like any other."""
    weight = case.weight()
    observed, call = np.sign(case.layer(backend).feedback()), case.call("sign of feedback()")
    why = "the sign of the weight, however small"
    expect_equal(observed, np.sign(weight), what="sign of feedback", why=why, call=call)


@check("R7", may_compute=True, case=draws.layer_cases(rule=draws.sign_rules, weights="normal"))
def check_sign_of_nan_is_nan(backend: Backend, case: LayerCase) -> None:
    """A broken weight is not hidden: where W is NaN, B is."""
    weight = case.weight().copy()
    weight.flat[0] = np.nan
    feedback = case.layer(backend, weight=weight).feedback()
    call = case.call("feedback() for a weight whose first element is NaN")
    first = float(feedback.flat[0])
    expect(isnan(first), f"feedback {first!r} to a weight of NaN", "NaN", call)
    others = int(np.isnan(feedback).sum()) - 1
    expect(others == 0, f"{others} more NaN", "NaN only where W is", call)


@check("R9", may_compute=True, case=draws.layer_cases(rule=st.sampled_from([*ALIASES])))
def check_aliases_stand_for_their_rules(backend: Backend, case: LayerCase) -> None:
    """A rule may be given by its alias, by its short name, or as the rule itself."""
    name = ALIASES[case.rule]
    expected = case.layer(backend, rule=RULES[name]).feedback()
    for rule in (case.rule, name):
        call, why = case.call("feedback()", rule=rule), f"what rule {name!r} gives"
        observed = case.layer(backend, rule=rule).feedback()
        expect_equal(observed, expected, what="feedback", why=why, call=call)


@check("R8", case=draws.layer_cases(weights="normal"))
def check_state_restores_a_layer(backend: Backend, case: LayerCase) -> None:
    """A layer built with other weights that loads a state goes on as the layer that gave it."""
    layer, other = case.layer(backend), case.layer(backend, weight=case.weight(1))
    layer.backward(case.x(), case.error())
    layer.set_weight(case.weight(2))
    other.load_state(layer.state())
    call = case.call("forward(x) after load_state(state)")
    expected = linear_maps.output(case, case.weight(2))
    expected.require(other.forward(case.x()), what="output", why="that of the saved", call=call)
    call = case.call("feedback() after load_state(state)")
    for _ in range(2):
        feedback, why = layer.feedback(), "that of the layer that was saved"
        expect_equal(other.feedback(), feedback, what="feedback", why=why, call=call)
        layer.backward(case.x(), case.error())
        other.backward(case.x(), case.error())


@check("R8", case=draws.layer_cases(weights="normal"))
def check_state_is_a_snapshot(backend: Backend, case: LayerCase) -> None:
    """A state does not change when the layer that gave it trains on."""
    layer = case.layer(backend)
    state, expected = layer.state(), layer.feedback().copy()
    layer.backward(case.x(), case.error())
    layer.set_weight(case.weight(1))
    layer.load_state(state)
    layer.set_weight(case.weight())
    observed, call = layer.feedback(), case.call("feedback() after load_state(earlier state)")
    expect_equal(observed, expected, what="feedback", why="as when the state was taken", call=call)
