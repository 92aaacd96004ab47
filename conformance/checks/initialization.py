"""Chapter I: initial weights."""

from antiparallel.conformance import strategies as draws
from antiparallel.conformance.cases import WeightCase
from antiparallel.conformance.expectations import expect_equal
from antiparallel.conformance.registry import check
from antiparallel.spec import feedback_scale
from antiparallel.spec.contract import Backend
from antiparallel.spec.draws import Purpose, draw


@check("I1", may_compute=True, case=draws.weight_cases())
def check_initial_weights(backend: Backend, case: WeightCase) -> None:
    """Initial weights are the specification's draw, rounded once to the dtype."""
    scale = feedback_scale(case.geometry, case.scale)
    values = draw(case.geometry, scale, seed=case.seed, index=case.index, purpose=Purpose.WEIGHT)
    expect_equal(
        case.initial(backend),
        values.astype(case.dtype),
        what="initial weight",
        why="the specification's draw, rounded once",
        call=case.call(),
    )
