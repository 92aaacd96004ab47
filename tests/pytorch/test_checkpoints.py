"""What state dicts hold, and what loading them needs."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiparallel.torch as ap
from antiparallel.spec import RULES


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", RULES)
def test_the_plain_models_checkpoint_loads_strictly(
    name: str, small_network: nn.Sequential
) -> None:
    plain = copy.deepcopy(small_network).state_dict()
    ap.convert(small_network, name)
    with torch.no_grad():
        for parameter in small_network.parameters():
            parameter.zero_()
    small_network.load_state_dict(through_a_file(plain), strict=True)
    for key, value in plain.items():
        assert torch.equal(small_network.state_dict()[key], value)


@pytest.mark.parametrize("name", ["bp", "ss"])
def test_rules_without_state_give_the_plain_models_state_dict(
    name: str, small_network: nn.Sequential
) -> None:
    plain = copy.deepcopy(small_network)
    ap.convert(small_network, name)
    assert list(small_network.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(small_network.state_dict(), strict=True)


@pytest.mark.clause("R8")
@pytest.mark.parametrize("name", RULES)
def test_a_loaded_model_goes_on_as_the_saved_one(
    name: str, small_network: nn.Sequential, images: Tensor
) -> None:
    saved = ap.convert(copy.deepcopy(small_network), name, seed=1)
    saved(images).sum().backward()
    loaded = ap.convert(small_network, name, seed=2)  # another seed: all comes from the file
    loaded.load_state_dict(through_a_file(saved.state_dict()), strict=True)
    saved.eval()
    loaded.eval()
    sent = []
    for model in (saved, loaded):
        x = images.clone().requires_grad_()
        model(x).square().sum().backward()
        sent.append(x.grad)
    assert torch.equal(*sent)


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("fa", "feedback"),
        ("fa-sign", "feedback"),
        ("ss-fixed", "magnitude"),
        ("ss-batch", "feedback_stream"),
    ],
)
def test_only_rules_with_state_add_an_entry(rule: str, key: str) -> None:
    layer = ap.Linear(4, 3, rule=rule, seed=2**64 - 1)
    assert list(layer.state_dict()) == ["weight", "bias", key]
    assert not layer.state_dict()[key].requires_grad


@pytest.mark.parametrize(
    ("rule", "key", "wrong"),
    [
        ("fa", "feedback", torch.zeros(4, 3)),
        ("fa", "feedback", torch.zeros(3, 4, dtype=torch.int64)),
        ("fa", "feedback", "text"),
        ("ss-fixed", "magnitude", torch.zeros(1)),
        ("ss-batch", "feedback_stream", torch.zeros(3)),
    ],
)
def test_feedback_that_does_not_fit_is_an_error_and_changes_nothing(
    rule: str, key: str, wrong: object
) -> None:
    layer = ap.Linear(4, 3, rule=rule)
    before = copy.deepcopy(layer.state_dict())
    state = {name: torch.zeros_like(value) for name, value in before.items()} | {key: wrong}
    with pytest.raises(RuntimeError, match=f"Received: {key}="):
        layer.load_state_dict(state)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


def test_another_rules_state_is_an_unexpected_key() -> None:
    state = ap.Linear(4, 3, rule="fa").state_dict()
    for rule in ("ss", "ss-fixed", "ss-batch"):
        with pytest.raises(RuntimeError, match=r'Unexpected key.*"feedback"'):
            ap.Linear(4, 3, rule=rule).load_state_dict(state)


def test_loading_keeps_the_feedback_tensor_in_place_unless_told_to_assign() -> None:
    layer, other = ap.Linear(4, 3, rule="fa"), ap.Linear(4, 3, rule="fa")
    feedback = layer.feedback
    layer.load_state_dict(other.state_dict())
    assert layer.feedback is feedback
    assert torch.equal(layer.feedback, other.feedback)
    layer.load_state_dict(other.state_dict(), assign=True)
    assert layer.feedback.data_ptr() == other.feedback.data_ptr()
