"""SGD against the specification's reference and against torch's own."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import antiparallel.torch as ap
from antiparallel.spec import SpecError, UnsupportedError
from antiparallel.spec import sgd as reference
from antiparallel.spec.contract import SGDConfig

CONFIGS = [
    {"lr": 0.1},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
]


def parameters() -> dict[str, nn.Parameter]:
    return {
        "weight": nn.Parameter(torch.randn(6, 5, dtype=torch.float64)),
        "bias": nn.Parameter(torch.randn(6, dtype=torch.float64)),
    }


@pytest.mark.clause("O1", "O2", "O3", "O4", "O5", "O6", "O8")
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("batch_manhattan", [False, True])
@pytest.mark.parametrize("keep_signs", [False, True])
def test_every_step_is_the_specifications(
    config: dict[str, Any], batch_manhattan: bool, keep_signs: bool
) -> None:
    own = parameters()
    options = {**config, "batch_manhattan": batch_manhattan, "keep_signs": keep_signs}
    optimizer = ap.SGD(own.values(), **options)
    expected_optimizer = reference.SGD(
        SGDConfig(**options), {name: p.detach().numpy() for name, p in own.items()}, ["bias"]
    )
    for _ in range(20):
        gradients = {name: torch.randn_like(p) for name, p in own.items()}
        for name, parameter in own.items():
            parameter.grad = gradients[name]
        optimizer.step()
        expected = expected_optimizer.step({name: g.numpy() for name, g in gradients.items()})
        for name, parameter in own.items():
            # a few roundings of numbers of size ten
            assert np.allclose(parameter.detach().numpy(), expected[name], rtol=0, atol=1e-14)


@pytest.mark.parametrize("config", CONFIGS)
def test_without_options_it_is_torchs_own(config: dict[str, Any]) -> None:
    own = parameters()
    native = copy.deepcopy(own)
    optimizers = [ap.SGD(own.values(), **config), torch.optim.SGD(native.values(), **config)]
    for _ in range(5):
        for name, parameter in own.items():
            parameter.grad = torch.randn_like(parameter)
            native[name].grad = parameter.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for name, parameter in own.items():
        assert torch.allclose(parameter, native[name], rtol=0, atol=1e-14)


@pytest.mark.clause("O6")
def test_keep_signs_stops_weights_at_the_bound_and_biases_go_on() -> None:
    weight = nn.Parameter(torch.tensor([[0.5, -0.5, 0.0, 2.0]]))
    bias = nn.Parameter(torch.tensor([0.5]))
    optimizer = ap.SGD([weight, bias], lr=1.0, keep_signs=True)
    weight.grad = torch.tensor([[1.0, -1.0, 1.0, 1.0]])
    bias.grad = torch.ones(1)
    optimizer.step()
    assert weight.tolist() == [torch.tensor([1e-10, -1e-10, 1e-10, 1.0]).tolist()]
    assert bias.item() == -0.5


@pytest.mark.clause("O1", "O6")
@pytest.mark.parametrize("options", [{"batch_manhattan": True}, {"keep_signs": True}])
def test_a_gradient_of_nan_is_not_hidden(options: dict[str, Any]) -> None:
    weight = nn.Parameter(torch.tensor([[0.0, 0.0, 1.0]]))
    weight.grad = torch.tensor([[float("nan"), float("inf"), float("nan")]])
    ap.SGD([weight], lr=1.0, **options).step()
    assert weight.isnan().tolist() == [[True, False, True]]


@pytest.mark.clause("O7")
def test_the_bound_in_float16_is_its_smallest_normal_number() -> None:
    weight = nn.Parameter(torch.tensor([[0.5]], dtype=torch.float16))
    weight.grad = torch.ones_like(weight)
    ap.SGD([weight], lr=1.0, keep_signs=True).step()
    assert weight.item() == 2.0**-14


def test_keep_signs_can_be_set_for_every_parameter_of_a_group() -> None:
    first, second = (nn.Parameter(torch.ones(1)) for _ in range(2))
    groups = [{"params": [first], "keep_signs": "all"}, {"params": [second]}]
    optimizer = ap.SGD(groups, lr=2.0)
    first.grad = second.grad = torch.ones(1)
    optimizer.step()
    assert first.item() == torch.tensor(1e-10).item()
    assert second.item() == -1


@pytest.mark.clause("O9")
def test_a_parameter_without_gradient_keeps_its_value_and_velocity() -> None:
    own = parameters()
    optimizer = ap.SGD(own.values(), lr=0.1, momentum=0.9)
    for parameter in own.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    before = copy.deepcopy(own["bias"])
    velocity = optimizer.state[own["bias"]]["momentum_buffer"].clone()
    own["bias"].grad = None
    optimizer.step()
    assert torch.equal(own["bias"], before)
    assert torch.equal(optimizer.state[own["bias"]]["momentum_buffer"], velocity)


def test_state_goes_through_a_state_dict_and_is_torchs() -> None:
    own = parameters()
    native = copy.deepcopy(own)
    optimizer = torch.optim.SGD(native.values(), lr=0.1, momentum=0.9)
    continued = ap.SGD(own.values(), lr=0.1, momentum=0.9)
    for parameter in native.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in own.items():
        parameter.data.copy_(native[name])
        parameter.grad = torch.ones_like(parameter)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.step()
    continued.step()
    for name, parameter in own.items():
        assert torch.allclose(parameter, native[name], rtol=0, atol=1e-15)


def test_schedulers_groups_and_closures_work() -> None:
    own = parameters()
    optimizer = ap.SGD([{"params": [own["weight"]], "lr": 1.0}, {"params": [own["bias"]]}], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum(p.sum() for p in own.values())
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        return loss

    before = copy.deepcopy(own)
    assert optimizer.step(closure) is not None
    scheduler.step()
    assert torch.allclose(own["weight"], before["weight"] - 1.0)
    assert torch.allclose(own["bias"], before["bias"] - 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05]


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr": "0.1"},
        {"momentum": -0.1},
        {"weight_decay": float("inf")},
        {"nesterov": True},
        {"keep_signs": "some"},
        {"batch_manhattan": 1},
    ],
)
def test_bad_settings_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="Received: "):
        ap.SGD(parameters().values(), **options)
    with pytest.raises(SpecError, match="Received: "):
        ap.SGD(parameters().values()).add_param_group({"params": [], **options})


def test_sparse_gradients_are_an_error_before_anything_changes() -> None:
    table, weight = nn.Embedding(4, 3, sparse=True), nn.Parameter(torch.ones(2, 2))
    table(torch.tensor([1])).sum().backward()
    weight.grad = torch.ones(2, 2)
    with pytest.raises(UnsupportedError, match="sparse"):
        ap.SGD([weight, table.weight], lr=1.0).step()
    assert (weight == 1).all()
