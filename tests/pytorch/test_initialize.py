"""Initial weights and what is measured of weights."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import antiparallel.torch as ap
from antiparallel.spec import SpecError, UnsupportedError, feedback_scale
from antiparallel.spec.diagnostics import diagnose
from antiparallel.spec.draws import Purpose, draw
from antiparallel.torch.layout import geometry, to_canonical


@pytest.mark.clause("I1", "D2")
def test_every_weight_layer_gets_the_specifications_draw_at_its_index(
    small_network: nn.Sequential,
) -> None:
    small_network.append(nn.Sequential(nn.Unflatten(1, (5, 1, 1)), nn.ConvTranspose2d(5, 4, 3)))
    assert ap.initialize(small_network, seed=3) is small_network
    layers = [small_network[0], small_network[3], small_network[6], small_network[7][1]]
    for index, layer in enumerate(layers):
        shape = geometry(layer)
        values = draw(shape, feedback_scale(shape), seed=3, index=index, purpose=Purpose.WEIGHT)
        expected = torch.from_numpy(values).float()
        assert torch.equal(to_canonical(layer, layer.weight), expected)


@pytest.mark.clause("I2")
def test_biases_start_at_zero_and_other_parameters_are_left_alone(
    small_network: nn.Sequential,
) -> None:
    small_network[1].weight.data.fill_(3.0)
    ap.initialize(small_network)
    assert all((small_network[place].bias == 0).all() for place in (0, 3, 6))
    assert (small_network[1].weight == 3).all()


def test_models_under_different_rules_start_alike(small_network: nn.Sequential) -> None:
    other = copy.deepcopy(small_network)
    ap.initialize(ap.convert(small_network, "fa", overrides={"0": "bp"}), seed=1)
    ap.initialize(other, seed=1)
    for key, value in other.state_dict().items():
        assert torch.equal(small_network.state_dict()[key], value)


@pytest.mark.clause("L5")
def test_a_converted_layers_own_lambda_sizes_its_weights(small_network: nn.Sequential) -> None:
    doubled = copy.deepcopy(small_network)
    ap.initialize(ap.convert(small_network, scale=1.0))
    ap.initialize(doubled, scale=2.0)
    assert torch.equal(doubled[0].weight, 2 * small_network[0].weight)


def test_signed_feedback_is_made_of_the_new_weights(small_network: nn.Sequential) -> None:
    ap.initialize(ap.convert(small_network, "fa-sign"))
    layer = small_network[0]
    assert torch.equal(layer.feedback, layer.weight.sign() * layer.feedback_scale)


def test_tied_weights_keep_the_first_layers_draw() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    alone = copy.deepcopy(model[0])
    model[1].weight = model[0].weight
    ap.initialize(model)
    assert torch.equal(model[0].weight, ap.initialize(alone).weight)


@pytest.mark.parametrize("arguments", [{"scale": "large"}, {"seed": -1}])
def test_a_bad_argument_changes_nothing(
    arguments: dict[str, object], small_network: nn.Sequential
) -> None:
    before = copy.deepcopy(small_network.state_dict())
    with pytest.raises(SpecError, match="Received: "):
        ap.initialize(small_network, **arguments)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[key]) for key, value in small_network.state_dict().items())


def test_weights_that_cannot_be_set_are_an_error_and_nothing_changes() -> None:
    model = nn.Sequential(nn.Linear(4, 4), parametrizations.weight_norm(nn.Linear(4, 4)))
    before = model[0].weight.clone()
    with pytest.raises(UnsupportedError, match="layer='1'"):
        ap.initialize(model)
    with pytest.raises(UnsupportedError, match="lazy"):
        ap.initialize(nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(4)))
    assert torch.equal(model[0].weight, before)


def test_a_model_without_weight_layers_is_an_error() -> None:
    for function in (ap.initialize, ap.diagnostics):
        with pytest.raises(SpecError, match="Received: "):
            function(nn.ReLU())


@pytest.mark.clause("M1", "M2", "M3")
def test_diagnostics_are_the_specifications_for_w_and_b(small_network: nn.Sequential) -> None:
    ap.convert(small_network, "fa", overrides={"3": "bp"})
    measured = ap.diagnostics(small_network)
    assert list(measured) == ["0", "3", "6"]
    weights = {name: small_network[int(name)].weight.detach().numpy() for name in measured}
    assert measured["0"] == diagnose(weights["0"], small_network[0].feedback.numpy())
    assert measured["3"] == diagnose(weights["3"], np.sign(weights["3"]))


def test_an_unconverted_layer_is_measured_against_its_signs(small_network: nn.Sequential) -> None:
    plain = ap.diagnostics(small_network)
    assert plain == ap.diagnostics(ap.convert(small_network, "bp"))
    assert 0 < plain["0"].angle < 90


def test_a_layer_in_bf16_can_be_measured() -> None:
    layer = ap.Linear(4, 3, rule="ss", dtype=torch.bfloat16)
    assert 0 < ap.diagnostics(layer)[""].angle < 90
