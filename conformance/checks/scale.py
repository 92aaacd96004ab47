"""Chapter L: lambda, for every kind of layer, by both conventions or by a number."""

import numpy as np
from hypothesis import strategies as st

from antiparallel.conformance import strategies as draws
from antiparallel.conformance.cases import LayerCase
from antiparallel.conformance.checks.rules import drawn
from antiparallel.conformance.expectations import expect_equal
from antiparallel.conformance.registry import check
from antiparallel.spec import feedback_scale
from antiparallel.spec.contract import Backend
from antiparallel.spec.draws import Purpose


def _require_scale(backend: Backend, case: LayerCase, formula: str) -> None:
    """Read lambda off the feedback of ss for weights of one."""
    ones = np.ones(case.geometry.weight_shape, case.dtype)
    scale = feedback_scale(case.geometry, case.scale)
    expect_equal(
        case.layer(backend, weight=ones).feedback(),
        np.full_like(ones, scale),
        what="feedback to weights of one",
        why=f"lambda = {formula}",
        call=case.call("feedback()"),
    )


@check(
    "L3", may_compute=True, case=draws.layer_cases(draws.dense_layers(), rule="ss", scale="paper")
)
def check_lambda_of_dense_layers(backend: Backend, case: LayerCase) -> None:
    """Lambda of a dense layer is ``1 / sqrt(n_out)``."""
    _require_scale(backend, case, "1 / sqrt(n_out)")


@check(
    "L1",
    may_compute=True,
    case=draws.layer_cases(draws.convolutions(), rule="ss", scale=draws.conventions),
)
def check_lambda_of_convolutions(backend: Backend, case: LayerCase) -> None:
    """Lambda of a convolution is ``sqrt(2 / (prod(kernel) * n_out / groups))``, by both scales."""
    _require_scale(backend, case, "sqrt(2 / (prod(kernel) * n_out / groups))")


@check(
    "L2",
    may_compute=True,
    case=draws.layer_cases(draws.transposed_convolutions(), rule="ss", scale=draws.conventions),
)
def check_lambda_of_transposed_convolutions(backend: Backend, case: LayerCase) -> None:
    """Lambda of a transposed convolution is a convolution's with the same n_out."""
    _require_scale(backend, case, "sqrt(2 / (prod(kernel) * n_out / groups))")


@check(
    "L4",
    may_compute=True,
    case=draws.layer_cases(draws.dense_layers(), rule="ss", scale="reference-code"),
)
def check_lambda_of_the_reference_code(backend: Backend, case: LayerCase) -> None:
    """Lambda of a dense layer by ``"reference-code"`` is ``1 / sqrt(n_in)``."""
    _require_scale(backend, case, "1 / sqrt(n_in)")


@check(
    "L4", may_compute=True, case=draws.layer_cases(rule="ss", scale=st.sampled_from([0.3, 2, 1e-3]))
)
def check_lambda_by_number(backend: Backend, case: LayerCase) -> None:
    """A number given as scale is lambda."""
    _require_scale(backend, case, "the number given")


@check(
    "L5",
    may_compute=True,
    case=draws.layer_cases(rule="fa", scale=st.sampled_from([0.3, "reference-code"])),
)
def check_lambda_sizes_drawn_feedback(backend: Backend, case: LayerCase) -> None:
    """Drawn feedback has the size of the same lambda."""
    expected = drawn(case, Purpose.FEEDBACK)
    observed, call = case.layer(backend).feedback(), case.call("feedback()")
    expect_equal(observed, expected, what="feedback", why="lambda times the draw", call=call)
