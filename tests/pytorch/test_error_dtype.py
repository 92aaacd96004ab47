"""Errors that are rounded on their way through B, and nothing else."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

import antiparallel.torch as ap
from antiparallel.spec import SpecError

# torch's own, at the first even kernel of a process
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")

NARROW = [torch.bfloat16, torch.float16]


def gradients(model: nn.Module, x: Tensor, error: Tensor) -> tuple[Tensor, list[Tensor]]:
    x = x.detach().requires_grad_()
    sent, *parameters = torch.autograd.grad(model(x), [x, *model.parameters()], error)
    return sent, parameters


@pytest.mark.parametrize("dtype", NARROW)
def test_error_and_b_are_rounded_before_they_are_multiplied(
    case: Any, rule: str, dtype: torch.dtype
) -> None:
    wide, x = case.layer(rule, seed=3), case.input()
    layer = case.layer(rule, seed=3, error_dtype=dtype)
    layer.load_state_dict(wide.state_dict())
    error = torch.randn_like(wide(x))
    native = case.layer("bp", dtype=dtype)
    bias = {} if native.bias is None else {"bias": native.bias}
    native.load_state_dict({"weight": layer.feedback_matrix().to(dtype), **bias})
    expected, _ = gradients(native, x.to(dtype), error.to(dtype))
    sent, own = gradients(layer, x, error)
    _, ordinary = gradients(wide, x, error)
    assert sent.dtype == x.dtype
    # Torch's own order of summation: equal up to the dtype's own rounding of results.
    assert torch.allclose(sent, expected.float(), rtol=torch.finfo(dtype).eps, atol=1e-6)
    assert all(map(torch.equal, own, ordinary))
    assert torch.equal(layer(x), wide(x))


def test_a_wider_dtype_than_the_error_s_rounds_less(case: Any, rule: str) -> None:
    layer, x = case.layer(rule, seed=3, error_dtype=torch.float64), case.input()
    error = torch.randn_like(layer(x))
    matrix = layer.feedback_matrix()
    native = case.layer("bp", dtype=torch.float64)
    bias = {} if native.bias is None else {"bias": native.bias}
    native.load_state_dict({"weight": matrix.double(), **bias})
    expected, _ = gradients(native, x.double(), error.double())
    sent, _ = gradients(layer, x, error)
    assert torch.allclose(sent, expected.float(), rtol=2**-23, atol=0)


def test_a_large_dense_layer_adds_up_narrow_errors_in_float32() -> None:
    layer = ap.Linear(1500, 1501, bias=False, rule="ss", error_dtype=torch.bfloat16)
    x, error = torch.randn(2, 1500), torch.randn(2, 1501)
    sent, _ = gradients(layer, x, error)
    matrix = layer.feedback_matrix().bfloat16().double()
    expected = error.bfloat16().double() @ matrix
    size = error.abs().double() @ matrix.abs()
    # Two blocks, each rounded to bfloat16; sums of 1501 products in float32.
    assert ((sent - expected).abs() <= 2**-8 * expected.abs() + 2**-9 * size / 10).all()
    assert not torch.equal(sent, sent.bfloat16().float())  # the blocks' sum is not rounded again


def test_convert_narrows_every_layer_and_verify_knows(
    rule: str, small_network: nn.Sequential, images: Tensor
) -> None:
    plain = small_network.eval()
    model = ap.convert(plain, rule, seed=1, error_dtype=torch.bfloat16)
    ap.verify(model, images)
    for layer in model.modules():
        if hasattr(layer, "error_dtype"):
            assert "error_dtype=torch.bfloat16" in repr(layer)
            layer.error_dtype = None
    ap.verify(model, images)
    assert not any(hasattr(layer, "error_dtype") for layer in ap.revert(model).modules())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_compiled_and_transformed_layers_send_the_same_errors() -> None:
    layer = ap.Linear(6, 5, rule="ss", error_dtype=torch.bfloat16)
    x, error = torch.randn(4, 6), torch.randn(4, 5)
    sent, _ = gradients(layer, x, error)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    per_row = vmap(grad(lambda x, error: layer(x) @ error))(x, error)
    # One rounding of results to bfloat16, and how five products are summed.
    assert torch.allclose(gradients(compiled, x, error)[0], sent, rtol=2**-7, atol=1e-3)
    assert torch.allclose(per_row, sent, rtol=2**-7, atol=1e-3)
    assert not torch.allclose(sent, error @ layer.feedback_matrix(), rtol=2**-12, atol=1e-5)


def test_bp_never_rounds(case: Any) -> None:
    layer, x = case.layer("bp", error_dtype=torch.bfloat16), case.input()
    plain = case.plain(**case.arguments)
    plain.load_state_dict(layer.state_dict())
    error = torch.randn_like(plain(x))
    assert torch.equal(gradients(layer, x, error)[0], gradients(plain, x, error)[0])
    ap.verify(layer, x)


@pytest.mark.parametrize("dtype", [torch.int8, "bfloat16", 16])
def test_another_dtype_is_an_error(dtype: Any) -> None:
    with pytest.raises(SpecError, match="Expected error_dtype to be a floating dtype"):
        ap.Linear(2, 3, error_dtype=dtype)
    model = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(SpecError, match="Received: error_dtype="):
        ap.convert(model, error_dtype=dtype)
    assert type(model[0]) is nn.Linear
