"""Chapter O: the specification's SGD."""

import numpy as np
from hypothesis import strategies as st

from antiparallel.conformance import strategies as draws
from antiparallel.conformance import tolerance
from antiparallel.conformance.cases import SGDCase
from antiparallel.conformance.expectations import expect, expect_close, expect_equal
from antiparallel.conformance.registry import check
from antiparallel.spec.contract import Array, Backend
from antiparallel.spec.sgd import SGD, SIGN_BOUND


def _require_updates(backend: Backend, case: SGDCase, why: str) -> None:
    """Compare some updates with the reference's, in float64."""
    optimizer = case.optimizer(backend)
    parameters = {name: _exact(array) for name, array in case.parameters().items()}
    reference, bound = SGD(case.config, parameters, ["bias"]), _Magnitudes(case)
    for step in range(case.steps):
        gradients = case.gradients_of(step)
        found = optimizer.step(gradients)
        exact = reference.step({name: _exact(array) for name, array in gradients.items()})
        bound.step(gradients)
        expect(
            found.keys() == exact.keys(),
            f"parameters {sorted(found)}",
            f"{sorted(exact)}",
            case.call(step),
        )
        for name in exact:
            expect_close(
                found[name],
                exact[name],
                tolerance.of_sgd(case.dtype, step + 1, bound.parameters[name]),
                case.dtype,
                what=name,
                why=why,
                call=case.call(step),
            )


def _exact(array: Array) -> Array:
    return array.astype(np.float64)


class _Magnitudes:
    """The update rule on absolute values: nothing cancels."""

    def __init__(self, case: SGDCase) -> None:
        self.config = case.config
        self.parameters = {name: abs(_exact(array)) for name, array in case.parameters().items()}
        self.velocities = {name: 0 * array for name, array in self.parameters.items()}

    def step(self, gradients: dict[str, Array]) -> None:
        config = self.config
        for name, gradient in gradients.items():
            size = np.ones(gradient.shape) if config.batch_manhattan else abs(_exact(gradient))
            size = size + config.weight_decay * self.parameters[name]
            self.velocities[name] = config.momentum * self.velocities[name] + size
            size = size + config.momentum * self.velocities[name]
            moved = self.parameters[name] + config.lr * size
            self.parameters[name] = moved + SIGN_BOUND if config.keep_signs else moved


@check("O5", case=draws.sgd_cases(momentum=0.0, weight_decay=0.0))
def check_gradient_descent(backend: Backend, case: SGDCase) -> None:
    """Without any extra an update subtracts the learning rate times the gradient."""
    _require_updates(backend, case, "p - lr * g")


@check("O2", case=draws.sgd_cases(weight_decay=st.sampled_from([0.01, 0.5])))
def check_weight_decay_is_coupled(backend: Backend, case: SGDCase) -> None:
    """Weight decay is added to the gradient, and so enters the velocity."""
    _require_updates(backend, case, "an update by g + weight_decay * p in place of g")


@check("O3", case=draws.sgd_cases(momentum=st.sampled_from([0.5, 0.9]), nesterov=False))
def check_momentum(backend: Backend, case: SGDCase) -> None:
    """The velocity starts as the first gradient, undamped, and holds the weight decay."""
    _require_updates(backend, case, "p - lr * v with v = momentum * v + g + weight_decay * p")


@check("O4", case=draws.sgd_cases(momentum=st.sampled_from([0.5, 0.9]), nesterov=True))
def check_nesterov(backend: Backend, case: SGDCase) -> None:
    """Nesterov momentum looks one step ahead."""
    _require_updates(backend, case, "p - lr * (d + momentum * v)")


@check("O1", case=draws.sgd_cases(momentum=0.0, batch_manhattan=True))
def check_batch_manhattan(backend: Backend, case: SGDCase) -> None:
    """Batch Manhattan replaces the gradient by its sign, biases' too; the sign of zero is zero."""
    _require_updates(backend, case, "p - lr * (sign(g) + weight_decay * p)")


@check(
    "O1",
    case=draws.sgd_cases(momentum=st.sampled_from([0.5, 0.9]), batch_manhattan=True),
)
def check_batch_manhattan_comes_first(backend: Backend, case: SGDCase) -> None:
    """The sign is taken before weight decay and momentum."""
    _require_updates(backend, case, "v = momentum * v + sign(g) + weight_decay * p")


@check("O6", case=draws.sgd_cases(keep_signs=True, batch_manhattan=st.booleans()))
def check_keep_signs(backend: Backend, case: SGDCase) -> None:
    """A weight that would reach or cross zero stops at +-1e-10; a zero counts as positive."""
    _require_updates(backend, case, "stopped at +-1e-10 where it would reach or cross zero")
    optimizer, weight = case.optimizer(backend), case.parameters()["weight"]
    for step in range(case.steps):
        before, weight = weight, optimizer.step(case.gradients_of(step))["weight"]
        kept = np.where(before >= 0, weight > 0, weight < 0)
        expected = "weights of the same sign as before, positive where they were zero"
        expect(bool(kept.all()), f"{np.sum(~kept)} changed signs", expected, case.call(step))


@check("O8", case=draws.sgd_cases(keep_signs=True, lr=2.0, weights="normal", gradients="normal"))
def check_keep_signs_leaves_biases(backend: Backend, case: SGDCase) -> None:
    """Biases cross zero freely."""
    _require_updates(backend, case, "for a bias the update without keep_signs")


@check("O9", case=draws.sgd_cases(weights="normal", gradients="normal"))
def check_missing_gradient_leaves_its_parameter(backend: Backend, case: SGDCase) -> None:
    """A parameter without a gradient keeps value and velocity: no decay, no momentum."""
    optimizer, reference = case.optimizer(backend), _reference(case)
    for step, absent in enumerate(["", "bias", "weight", ""]):
        given = {name: g for name, g in case.gradients_of(step).items() if name != absent}
        before = reference.step({})
        found = optimizer.step(given)
        exact = reference.step({name: _exact(array) for name, array in given.items()})
        if absent:
            unchanged = bool(np.array_equal(exact[absent], before[absent]))
            assert unchanged, "the reference must leave it alone, too"
        for name in exact:
            size = abs(exact[name]) + 10 * (step + 1)  # |g| < 5, lr <= 0.5, geometric momentum
            expect_close(
                found[name],
                exact[name],
                tolerance.of_sgd(case.dtype, step + 1, size),
                case.dtype,
                what=name,
                why=f"no update of {absent!r}, which had no gradient" if absent else "an update",
                call=case.call(step),
            )


def _reference(case: SGDCase) -> SGD:
    parameters = {name: _exact(array) for name, array in case.parameters().items()}
    return SGD(case.config, parameters, ["bias"])


@check("O6", case=draws.sgd_cases(keep_signs=True, weights="normal", gradients="normal"))
def check_keep_signs_keeps_nan(backend: Backend, case: SGDCase) -> None:
    """A weight that becomes NaN stays NaN: a broken update is not hidden."""
    gradients = case.gradients_of(0)
    broken = gradients["weight"].copy()
    broken.flat[0] = np.nan
    found = case.optimizer(backend).step(gradients | {"weight": broken})["weight"]
    call = f"{case.call(0)} with a gradient whose first element is NaN"
    places = np.isnan(found)
    alone = bool(places.flat[0] and places.sum() == 1)
    expect(alone, f"NaN at {np.argwhere(places).tolist()}", "NaN at the first weight", call)


@check("N9", case=draws.sgd_cases())
def check_optimizer_does_not_modify_its_arguments(backend: Backend, case: SGDCase) -> None:
    """Neither the parameters that an optimizer is given nor the gradients are written into."""
    given, kept = case.parameters(), case.parameters()
    optimizer = backend.sgd(case.config, given, ["bias"])
    for step in range(case.steps):
        gradients = case.gradients_of(step)
        optimizer.step(gradients)
        for name in kept:
            why, call = "as it was given", case.call(step)
            expect_equal(given[name], kept[name], what=name, why=why, call=call)
            before = case.gradients_of(step)[name]
            what = f"gradient of {name}"
            expect_equal(gradients[name], before, what=what, why=why, call=call)
