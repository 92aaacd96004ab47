"""Chapter F: what goes back through B, and what does not."""

from antiparallel.conformance import linear_maps
from antiparallel.conformance import strategies as draws
from antiparallel.conformance.cases import LayerCase
from antiparallel.conformance.registry import check
from antiparallel.spec.contract import Backend


def _require_input_error(backend: Backend, case: LayerCase) -> None:
    layer = case.layer(backend)
    expected = linear_maps.gradients(case, layer.feedback())
    found = layer.backward(case.x(), case.error())
    call = case.call("backward(x, error)")
    why = "the error carried back by B = feedback()"
    expected.input.require(found.input, what="input error", why=why, call=call)


@check("F2", case=draws.layer_cases(draws.dense_layers()))
def check_input_error_of_dense_layers(backend: Backend, case: LayerCase) -> None:
    """A dense layer sends ``dE/dy B`` to its input, B being what feedback() returns."""
    _require_input_error(backend, case)


@check("F3", case=draws.layer_cases(draws.convolutions()))
def check_input_error_of_convolutions(backend: Backend, case: LayerCase) -> None:
    """A convolution sends its error back through the transposed map of B, group by group."""
    _require_input_error(backend, case)


@check("F3", case=draws.layer_cases(draws.transposed_convolutions()))
def check_input_error_of_transposed_convolutions(backend: Backend, case: LayerCase) -> None:
    """A transposed convolution sends its error back through the convolution with B."""
    _require_input_error(backend, case)


@check("F4", case=draws.layer_cases())
def check_weight_gradient_is_ordinary(backend: Backend, case: LayerCase) -> None:
    """dE/dW is computed from the error that arrives; neither W nor B has a part in it."""
    expected = linear_maps.gradients(case, case.weight())
    found = case.layer(backend).backward(case.x(), case.error())
    expected.weight.require(
        found.weight,
        what="weight gradient",
        why="the ordinary gradient for the error that arrives",
        call=case.call("backward(x, error)"),
    )


@check("F4", case=draws.layer_cases())
def check_bias_gradient_is_ordinary(backend: Backend, case: LayerCase) -> None:
    """dE/db is the sum of the error that arrives; None for a layer without bias."""
    expected = linear_maps.gradients(case, case.weight())
    found = case.layer(backend).backward(case.x(), case.error())
    linear_maps.require_bias_gradient(
        found,
        expected,
        why="the error summed over batch and positions",
        call=case.call("backward(x, error)"),
    )


@check("F1", case=draws.layer_cases(weights="normal"))
def check_feedback_does_not_touch_the_forward_pass(backend: Backend, case: LayerCase) -> None:
    """The output is the ordinary one under every rule, also after a backward pass."""
    layer = case.layer(backend)
    layer.backward(case.x(1), case.error(1))
    expected, call = linear_maps.output(case, case.weight()), case.call("forward(x)")
    why = "W x + b, in which B has no part"
    expected.require(layer.forward(case.x()), what="output", why=why, call=call)
