"""Under torch.compile: one whole graph, the same gradients."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiparallel.torch as ap

# torch's own warnings while it compiles
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)


def gradients(model: Any, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("rule", ["bp", "ss", "ss-fixed", "fa", "fa-sign"])
def test_the_whole_graph_compiles_and_gives_the_same_gradients(
    rule: str, backend: str, small_network: nn.Sequential, images: Tensor
) -> None:
    if backend == "inductor" and rule not in ("ss", "fa"):
        return  # the others differ from these in the graph's inputs only
    model = ap.convert(small_network, rule)
    model.append(ap.convert(nn.Sequential(nn.Unflatten(1, (5, 1)), nn.ConvTranspose1d(5, 2, 3))))
    expected = gradients(copy.deepcopy(model), images)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for own, eager in zip(gradients(compiled, images), expected, strict=True):
        assert torch.allclose(own, eager, rtol=1e-4, atol=1e-4)


def test_compiled_ss_follows_the_weights(images: Tensor) -> None:
    layer = ap.Conv2d(3, 4, 3, rule="ss")
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    before = gradients(compiled, images)[1]
    with torch.no_grad():
        layer.weight.neg_()
        assert layer.bias is not None
        layer.bias.neg_()
    assert torch.allclose(gradients(compiled, images)[1], before, atol=1e-5)  # both signs turned


def test_ss_batch_breaks_the_graph_and_stays_right(images: Tensor) -> None:
    model = ap.convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), "ss-batch", seed=1)
    twin = copy.deepcopy(model)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager")
    for _ in range(2):
        for own, eager in zip(gradients(compiled, images), gradients(twin, images), strict=True):
            assert torch.allclose(own, eager, rtol=1e-4, atol=1e-4)
    assert model[0].backward_count == twin[0].backward_count == 2


def test_ss_batch_in_one_whole_graph_is_an_error_that_says_why(images: Tensor) -> None:
    layer = ap.Conv2d(3, 4, 3, rule="ss-batch")
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match=r"ss-batch.* draw outside the compiled graph"):
        compiled(images.requires_grad_()).sum().backward()
