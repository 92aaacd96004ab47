"""Functions: torch's namesakes with B for the way back, under torch's transformations."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

import antiparallel.torch as ap
from antiparallel.spec import SpecError

PAIRS = [
    (ap.functional.linear, F.linear, (2, 5), (3, 5)),
    (ap.functional.conv1d, F.conv1d, (2, 4, 6), (3, 4, 3)),
    (ap.functional.conv2d, F.conv2d, (2, 4, 6, 6), (3, 4, 3, 3)),
    (ap.functional.conv3d, F.conv3d, (2, 4, 4, 4, 4), (3, 4, 3, 3, 3)),
    (ap.functional.conv_transpose1d, F.conv_transpose1d, (2, 4, 6), (4, 3, 3)),
    (ap.functional.conv_transpose2d, F.conv_transpose2d, (2, 4, 5, 5), (4, 3, 3, 3)),
    (ap.functional.conv_transpose3d, F.conv_transpose3d, (2, 4, 3, 3, 3), (4, 3, 3, 3, 3)),
]


@pytest.mark.parametrize(("own", "native", "shape", "weight_shape"), PAIRS)
def test_a_function_is_its_namesake_with_b_on_the_way_back(
    own: Any, native: Any, shape: tuple[int, ...], weight_shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight, feedback = torch.randn(2, *weight_shape, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    y = own(x, weight, feedback, bias)
    assert torch.equal(y, native(x, weight, bias))
    error = torch.randn_like(y)
    (sent,) = torch.autograd.grad(y, x, error)
    (expected,) = torch.autograd.grad(native(x, feedback), x, error)
    assert torch.allclose(sent, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("own", "native", "shape", "weight_shape"), PAIRS)
def test_feedback_of_another_shape_is_an_error(
    own: Any, native: Any, shape: tuple[int, ...], weight_shape: tuple[int, ...]
) -> None:
    with pytest.raises(SpecError, match=r"weight's shape .* Received: feedback.shape="):
        own(torch.randn(shape), torch.randn(weight_shape), torch.randn(1, *weight_shape))


def test_padding_by_an_unknown_name_is_an_error() -> None:
    weight = torch.randn(3, 4, 3)
    for options in ({"padding": "full"}, {"padding": "same", "stride": 2}):
        with pytest.raises(SpecError, match="Received: padding="):
            ap.functional.conv1d(torch.randn(2, 4, 6), weight, weight, **options)


def test_learned_feedback_has_a_second_derivative() -> None:
    x = torch.randn(2, 4, requires_grad=True)
    feedback = torch.randn(3, 4, requires_grad=True)
    y = ap.functional.linear(x, torch.randn(3, 4), feedback)
    error = torch.randn(2, 3)
    (sent,) = torch.autograd.grad(y, x, error, create_graph=True)
    (by_feedback,) = torch.autograd.grad(sent.sum(), feedback)
    assert torch.allclose(by_feedback, error.sum(0)[:, None].expand(3, 4))


@pytest.mark.parametrize("rule", ["ss", "ss-fixed", "fa"])
def test_per_sample_gradients_by_vmap_equal_those_by_a_loop(
    rule: str, small_network: nn.Sequential, images: Tensor
) -> None:
    model = ap.convert(small_network.eval(), rule)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, parameters, (x[None],)).square().sum()

    together = vmap(grad(loss, argnums=(0, 1)), (None, 0))(parameters, images)
    for number, x in enumerate(images):
        x = x.clone().requires_grad_()
        model.zero_grad()
        model(x[None]).square().sum().backward()
        assert torch.allclose(together[1][number], x.grad, rtol=1e-4, atol=1e-5)
        for name, parameter in model.named_parameters():
            assert torch.allclose(together[0][name][number], parameter.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rule", ["ss", "ss-fixed", "fa"])
def test_an_ensemble_by_vmap_over_weights_equals_its_members(rule: str) -> None:
    layer = ap.Linear(4, 3, rule=rule)
    x, weights = torch.randn(2, 4), torch.randn(5, 3, 4)

    def loss(weight: Tensor, x: Tensor) -> Tensor:
        return functional_call(layer, {"weight": weight}, (x,)).square().sum()

    together = vmap(grad(loss, argnums=(0, 1)), (0, None))(weights, x)
    for number, weight in enumerate(weights):
        alone = grad(loss, argnums=(0, 1))(weight, x)
        for one, other in zip(together, alone, strict=True):
            assert torch.allclose(one[number], other, rtol=1e-5, atol=1e-5)


def test_torch_func_grad_goes_through_b_not_w() -> None:
    layer = ap.Linear(4, 3, rule="fa")
    x = torch.randn(2, 4)
    sent = grad(lambda x: layer(x).sum())(x)
    assert torch.allclose(sent, torch.ones(2, 3) @ layer.feedback_matrix())


# torch's own: the first jvp of a process scripts its decompositions
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_forward_mode_differentiation_is_an_error_not_backprop() -> None:
    layer = ap.Linear(4, 3, rule="fa")
    x = torch.randn(2, 4)
    with pytest.raises(NotImplementedError, match="jvp"):
        jvp(layer, (x,), (x,))
