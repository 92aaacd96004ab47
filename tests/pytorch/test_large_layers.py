"""Dense layers so large that B is made in blocks."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import antiparallel.torch as ap


class Largest(TorchDispatchMode):
    """Notes the most numbers that any operation returned in one tensor."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not result._is_view():
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("rule", ["ss", "ss-fixed", "ss-batch"])
def test_a_large_dense_layer_sends_the_error_through_b_of_which_only_parts_exist(
    rule: str, batch: tuple[int, ...]
) -> None:
    layer = ap.Linear(1500, 1501, bias=False, rule=rule, seed=1).requires_grad_(False)
    layer.weight[7] = 0
    layer.weight[1500, 3] = 1e-45
    x, error = torch.randn(*batch, 1500, requires_grad=True), torch.randn(*batch, 1501)
    matrix = layer.feedback_matrix().double()
    y = layer(x)
    with Largest() as largest:
        y.backward(error)
    drawn = layer.weight.numel() if rule == "ss-batch" else 0
    assert largest.numbers <= max(drawn, 2**21 + 1500)
    assert x.grad is not None
    bound = 1501 * 2**-23 * (error.double().abs() @ matrix.abs())
    assert ((x.grad - error.double() @ matrix).abs() <= bound).all()


def test_a_large_dense_layer_has_a_second_derivative() -> None:
    layer = ap.Linear(1500, 1501, bias=False, rule="ss", seed=1)
    x = torch.randn(1500, requires_grad=True)
    error, v = torch.randn(1501, requires_grad=True), torch.randn(1500)
    (sent,) = torch.autograd.grad(layer(x), x, error, create_graph=True)
    (second,) = torch.autograd.grad(sent, error, v)
    matrix = layer.feedback_matrix().double()
    bound = 1500 * 2**-23 * (matrix.abs() @ v.double().abs())
    assert ((second - matrix @ v.double()).abs() <= bound).all()


def test_a_large_dense_layer_shows_broken_weights() -> None:
    layer = ap.Linear(1500, 1501, bias=False, rule="ss").requires_grad_(False)
    layer.weight[1500, 3] = torch.nan
    x = torch.zeros(1500, requires_grad=True)
    (sent,) = torch.autograd.grad(layer(x), x, torch.ones(1501))
    assert sent.isnan().nonzero().tolist() == [[3]]
