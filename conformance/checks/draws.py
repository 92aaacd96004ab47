"""Chapter D: random feedback is the specification's, bit for bit."""

import numpy as np
from hypothesis import strategies as st

from antiparallel.conformance import strategies
from antiparallel.conformance.cases import LayerCase
from antiparallel.conformance.checks.rules import drawn
from antiparallel.conformance.expectations import expect, expect_equal
from antiparallel.conformance.registry import check
from antiparallel.spec import Conv, Dense
from antiparallel.spec.contract import Backend
from antiparallel.spec.draws import Purpose

_LARGE_WORDS = st.integers(2**63, 2**64 - 1)
_LARGE = (Dense(515, 513), Conv(130, 227, (3, 3)))  # some 264,000 weights each


def _require_draw(backend: Backend, case: LayerCase) -> None:
    expected = drawn(case, Purpose.FEEDBACK)
    observed, call = case.layer(backend).feedback(), case.call("feedback()")
    why = "the specification's draw, rounded once"
    expect_equal(observed, expected, what="feedback", why=why, call=call)


@check("D5", may_compute=True, case=strategies.layer_cases(strategies.dense_layers(), rule="fa"))
def check_draws_of_dense_layers(backend: Backend, case: LayerCase) -> None:
    """Under fa B of a dense layer is the uniform draw of D5, bit for bit."""
    _require_draw(backend, case)


@check("D6", may_compute=True, case=strategies.layer_cases(strategies.convolutions(), rule="fa"))
def check_draws_of_convolutions(backend: Backend, case: LayerCase) -> None:
    """Under fa B of a convolution is the normal draw of D6, bit for bit on one machine."""
    _require_draw(backend, case)


@check(
    "D7",
    may_compute=True,
    case=strategies.layer_cases(strategies.transposed_convolutions(), rule="fa"),
)
def check_draws_fill_the_canonical_layout(backend: Backend, case: LayerCase) -> None:
    """The numbers fill the canonical layout, also where a framework stores W in another."""
    _require_draw(backend, case)


@check("D3", may_compute=True, geometry=_LARGE)
def check_draws_of_large_layers(backend: Backend, geometry: Dense | Conv) -> None:
    """A layer of many weights gets the same stream of words as a small one, only longer."""
    spatial = () if isinstance(geometry, Dense) else (3, 3)
    _require_draw(backend, LayerCase(geometry, rule="fa", dtype="float32", spatial=spatial))


@check(
    "D1",
    may_compute=True,
    case=strategies.layer_cases(rule="fa", seed=_LARGE_WORDS, index=_LARGE_WORDS),
)
def check_large_seeds(backend: Backend, case: LayerCase) -> None:
    """Seed and index use all of their 64 bits."""
    _require_draw(backend, case)


@check("D8", may_compute=True, case=strategies.layer_cases(rule=strategies.drawn_rules))
def check_draws_repeat(backend: Backend, case: LayerCase) -> None:
    """Layers built alike have the same feedback, bit for bit, however often they are built."""
    expected = case.layer(backend).feedback()
    for _ in range(2):
        observed, call = case.layer(backend).feedback(), case.call("feedback()")
        why = "that of a layer built alike"
        expect_equal(observed, expected, what="feedback", why=why, call=call)


@check(
    "D9",
    may_compute=True,
    case=strategies.layer_cases(rule="fa", seed=st.integers(0, 9), index=st.integers(0, 9)),
)
def check_seed_and_index_key_the_draws(backend: Backend, case: LayerCase) -> None:
    """Layers of another seed or index have other feedback; seed and index do not commute."""
    feedback = case.layer(backend).feedback()
    changes = [{"seed": case.seed + 1}, {"index": case.index + 1}]
    if case.seed != case.index:
        changes.append({"seed": case.index, "index": case.seed})
    for change in changes:
        same = np.array_equal(feedback, case.layer(backend, **change).feedback())
        expected = f"other feedback than for {change}"
        expect(not same, "the same feedback", expected, case.call("feedback()"))
