"""The self-check: it passes what is right, and names what is not."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import antiparallel.torch as ap
from antiparallel.spec import RULES, SpecError

# torch's own, at the first even kernel of a process
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")


@pytest.mark.parametrize("name", RULES)
def test_a_converted_model_passes(name: str, small_network: nn.Sequential, images: Tensor) -> None:
    ap.convert(small_network, name)
    assert ap.verify(small_network, images) == {"0": 1, "3": 1, "6": 1}


def test_every_kind_of_layer_passes(case: Any, rule: str) -> None:
    assert ap.verify(case.layer(rule), case.input()) == {"": 1}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_pass(
    dtype: torch.dtype, small_network: nn.Sequential, images: Tensor
) -> None:
    ap.convert(small_network.to(dtype), "ss")
    assert len(ap.verify(small_network, images.to(dtype))) == 3


def test_autocast_and_checkpointing_pass(small_network: nn.Sequential, images: Tensor) -> None:
    class Cast(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return checkpoint(self.inner, x, use_reentrant=False)

    model = Cast(ap.convert(small_network, "ss"))
    assert ap.verify(model, images) == {"inner.0": 1, "inner.3": 1, "inner.6": 1}


def test_nothing_is_left_behind(small_network: nn.Sequential, images: Tensor) -> None:
    ap.convert(small_network, "ss-batch")
    before = copy.deepcopy(small_network.state_dict())
    random = torch.get_rng_state()
    ap.verify(small_network, images)
    for name, value in small_network.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in small_network.parameters())
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in small_network.modules()
    )


class BackpropInDisguise(ap.Linear):
    """Reports a rule and sends the error through W."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)


class Doubled(ap.Linear):
    """Sends twice the error."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input * 2 - input.detach())


class Silent(ap.Linear):
    """Sends no error, so that none arrives further down either."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.detach())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (BackpropInDisguise, "sent another error than B gives in call 1"),
        (Doubled, "sent another error than B gives in call 1"),
        (Silent, "no error arrived at its output or its input"),
    ],
)
def test_a_layer_that_does_not_use_b_is_named(kind: Any, message: str) -> None:
    model = nn.Sequential(ap.Linear(4, 4), kind(4, 4))
    with pytest.raises(ap.FeedbackError, match=f"1: {message}") as caught:
        ap.verify(model, torch.randn(2, 4))
    assert ("0: " in str(caught.value)) == (kind is Silent)


class Behind(nn.Module):
    """Uses a layer's weight without calling it, in a way that its source hides."""

    def __init__(self, also_call: bool) -> None:
        super().__init__()
        self.inner, self.also_call = ap.Linear(4, 4), also_call

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, getattr(self.inner, "wei" + "ght"))
        return y + self.inner(x) if self.also_call else y


@pytest.mark.parametrize("also_call", [False, True])
def test_a_weight_used_behind_the_layers_back_is_named(also_call: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 4), Behind(also_call))
    with pytest.raises(ap.FeedbackError, match=r"1\.inner: its parameters are used by .* outside"):
        ap.verify(model, torch.randn(2, 4))


def test_a_layer_that_is_not_called_is_named(small_network: nn.Sequential, images: Tensor) -> None:
    small_network.add_module("unused", nn.Identity())
    small_network.unused.inner = nn.Linear(2, 2)
    ap.convert(small_network)
    with pytest.raises(ap.FeedbackError, match=r"unused\.inner: was never called"):
        ap.verify(small_network, images)


def test_a_layer_whose_output_is_thrown_away_is_named() -> None:
    class Wasteful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.wasted = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.wasted(x)
            return self.used(x)

    with pytest.raises(ap.FeedbackError, match="wasted: no error arrived at its output"):
        ap.verify(ap.convert(Wasteful()), torch.randn(2, 4))


def test_a_case_in_which_b_and_w_cannot_be_told_apart_proves_nothing() -> None:
    layer = ap.Linear(4, 3, rule="ss")
    nn.init.zeros_(layer.weight)
    with pytest.raises(ap.FeedbackError, match="nothing is proved"):
        ap.verify(layer, torch.randn(2, 4))


def test_a_model_without_rules_is_an_error(small_network: nn.Sequential, images: Tensor) -> None:
    with pytest.raises(SpecError, match="follow a rule"):
        ap.verify(small_network, images)
