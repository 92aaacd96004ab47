"""Whole models: what convert changes, what it leaves, and that it does all or nothing."""

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import antiparallel.torch as ap
from antiparallel.spec import RULES, SpecError, UnsupportedError
from antiparallel.spec.draws import Purpose, draw
from antiparallel.torch.layout import from_canonical, geometry, to_canonical


def snapshot(model: nn.Module) -> list[Any]:
    return [(name, type(module), dict(vars(module))) for name, module in model.named_modules()]


def test_parameters_names_hooks_modes_and_devices_stay(small_network: nn.Sequential) -> None:
    small_network[3].eval().requires_grad_(False)
    calls: list[str] = []
    small_network[0].register_forward_hook(lambda *_: calls.append("hook"))
    modules = dict(small_network.named_modules())
    parameters = dict(small_network.named_parameters())
    values = copy.deepcopy(small_network.state_dict())

    converted = ap.convert(small_network, "fa", seed=1)

    assert converted is small_network
    assert dict(converted.named_modules()) == modules
    assert list(dict(converted.named_parameters())) == list(parameters)
    for name, parameter in converted.named_parameters():
        assert parameter is parameters[name]
        assert torch.equal(parameter, values[name])
    assert [module.training for module in converted] == [True] * 3 + [False] + [True] * 3
    assert not converted[3].weight.requires_grad
    converted(torch.randn(2, 3, 8, 8))
    assert calls == ["hook"]


@pytest.mark.parametrize("name", RULES)
def test_a_converted_models_output_is_bit_identical(
    name: str, small_network: nn.Sequential, images: Tensor
) -> None:
    plain = copy.deepcopy(small_network)
    ap.convert(small_network, name)
    assert torch.equal(small_network(images), plain(images))


def test_bp_trains_exactly_as_the_plain_model(small_network: nn.Sequential, images: Tensor) -> None:
    plain = copy.deepcopy(small_network)
    ap.convert(small_network, "bp")
    for model in (plain, small_network):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    for own, ordinary in zip(small_network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own, ordinary)


@pytest.mark.parametrize(
    ("layer", "input_shape"), [(nn.Linear(4, 3), (2, 4)), (nn.Conv2d(2, 3, 3), (1, 2, 5, 5))]
)
def test_a_bare_layer_is_converted_in_place(layer: nn.Module, input_shape: Any) -> None:
    layer = copy.deepcopy(layer)
    assert ap.convert(layer, "fa") is layer
    assert isinstance(layer, ap.FeedbackLayer)
    assert ap.verify(layer, torch.randn(input_shape)) == {"": 1}


def test_a_module_under_two_names_stays_one_module() -> None:
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"first": shared, "second": shared, "third": nn.Linear(4, 4)})
    ap.convert(model, "fa", overrides={"second": "ss"})
    assert model["first"] is model["second"]
    assert model["first"].rule.name == "ss"
    assert [row.name for row in ap.summary(model).rows] == ["first", "third"]
    assert model["third"].stream == (0, 1)


def test_tied_weights_stay_tied_and_each_layer_has_its_own_feedback() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    ap.convert(model, "fa")
    assert model[2].weight is model[0].weight
    assert not torch.equal(model[0].feedback, model[2].feedback)
    assert ap.verify(model, torch.randn(2, 4)) == {"0": 1, "2": 1}


def test_an_embedding_tied_to_the_head_is_no_obstacle() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 4)
            self.body = nn.Linear(4, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.body(self.embedding(tokens)).relu())

    model = ap.convert(Tied(), "ss")
    assert model.head.weight is model.embedding.weight
    assert ap.verify(model, torch.tensor([[1, 2, 3]])) == {"body": 1, "head": 1}


def test_a_layer_called_many_times_sends_every_error_through_b() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = torch.tanh(self.cell(x))
            return x

    for rule in RULES:
        model = ap.convert(Recurrent(), rule, seed=2)
        assert ap.verify(model, torch.randn(2, 4)) == {"cell": 3}


@pytest.mark.clause("D2")
def test_overrides_do_not_shift_the_draws_of_other_layers(small_network: nn.Sequential) -> None:
    other = copy.deepcopy(small_network)
    ap.convert(small_network, "fa", seed=3)
    ap.convert(other, "fa", seed=3, overrides={"0": "bp", "3": "ss"})
    assert torch.equal(small_network[6].feedback, other[6].feedback)


@pytest.mark.clause("D7")
def test_feedback_is_the_specifications_draw(case: Any) -> None:
    layer = case.plain(**case.arguments)
    ap.convert(nn.Sequential(nn.Linear(2, 2), layer), "fa", seed=9)
    values = draw(geometry(layer), layer.feedback_scale, seed=9, index=1, purpose=Purpose.FEEDBACK)
    expected = torch.from_numpy(values).float()
    assert torch.equal(to_canonical(layer, layer.feedback), expected)
    assert torch.equal(from_canonical(layer, expected), layer.feedback)


def test_scale_reaches_every_layer(small_network: nn.Sequential) -> None:
    ap.convert(small_network, "ss", scale=0.25)
    assert {row.feedback_scale for row in ap.summary(small_network).rows} == {0.25}


def test_of_several_matching_patterns_the_last_counts(small_network: nn.Sequential) -> None:
    ap.convert(small_network, overrides={"*": "fa", "[03]": "ss-fixed", "3": "bp"})
    names = [row.rule for row in ap.summary(small_network).rows]
    assert names == ["ss-fixed", "bp", "fa"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "hebb"}, "rule='hebb'"),
        ({"overrides": {"fc": "bp"}}, "overrides='fc'"),
        ({"overrides": {"0": "hebb"}}, "rule='hebb'"),
        ({"scale": 0}, "scale=0"),
        ({"seed": -1}, "seed=-1"),
        ({"rule": "fa", "seed": None}, "seed=None"),
    ],
)
def test_a_bad_argument_changes_nothing(
    arguments: dict[str, Any], message: str, small_network: nn.Sequential
) -> None:
    before = snapshot(small_network)
    with pytest.raises(SpecError, match=f"Received: .*{message}"):
        ap.convert(small_network, **arguments)
    assert snapshot(small_network) == before


def test_a_model_without_weight_layers_is_an_error() -> None:
    with pytest.raises(SpecError, match="no weight layers"):
        ap.convert(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)))


def test_a_model_in_which_nothing_can_be_converted_is_an_error_with_the_reasons() -> None:
    with pytest.raises(SpecError, match=r"out_proj: its weight is read by MultiheadAttention"):
        ap.convert(nn.MultiheadAttention(4, 2))


def test_converting_twice_is_an_error_and_changes_nothing(small_network: nn.Sequential) -> None:
    ap.convert(small_network, "fa")
    feedback = small_network[0].feedback
    with pytest.raises(SpecError, match="revert it first"):
        ap.convert(small_network, "ss")
    assert small_network[0].feedback is feedback


def test_asking_for_a_rule_that_a_layer_cannot_follow_is_an_error() -> None:
    model = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    with pytest.raises(UnsupportedError, match="read by MultiheadAttention"):
        ap.convert(model, "bp", overrides={"*.out_proj": "ss"})
    assert type(model.linear1) is nn.Linear
    ap.convert(model, "ss", overrides={"*.out_proj": "bp"})


def test_revert_gives_back_the_plain_model(small_network: nn.Sequential, images: Tensor) -> None:
    plain = copy.deepcopy(small_network)
    before = [(name, type(module)) for name, module in plain.named_modules()]
    ap.revert(ap.convert(small_network, "fa", overrides={"3": "ss-batch"}))
    assert [(name, type(module)) for name, module in small_network.named_modules()] == before
    assert small_network.state_dict().keys() == plain.state_dict().keys()
    assert vars(small_network[0]).keys() == vars(plain[0]).keys()
    for model in (plain, small_network):
        model(images).square().sum().backward()
    for own, ordinary in zip(small_network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own.grad, ordinary.grad)


def test_reverting_a_plain_model_is_an_error(small_network: nn.Sequential) -> None:
    with pytest.raises(SpecError, match="follow a rule"):
        ap.revert(small_network)


class OwnLinear(nn.Linear):
    """A user's layer, which may do anything."""


class OwnFeedbackLinear(ap.Linear):
    """A user's layer on top of ours."""


def test_reverting_a_users_own_layer_is_an_error_and_changes_nothing() -> None:
    model = nn.Sequential(ap.Linear(4, 4), OwnFeedbackLinear(4, 4))
    with pytest.raises(UnsupportedError, match="OwnFeedbackLinear"):
        ap.revert(model)
    assert type(model[0]) is ap.Linear


def test_layers_that_cannot_be_converted_are_explained() -> None:
    replaced = nn.Linear(4, 4)
    replaced.forward = lambda x: x  # type: ignore[method-assign]  # what some libraries do
    model = nn.Sequential(nn.Linear(4, 4), OwnLinear(4, 4), replaced, nn.LazyLinear(4))
    ap.convert(model)
    rows = ap.summary(model)
    assert rows["0"].converted
    assert "a subclass of Linear" in rows["1"].reason
    assert "OwnLinear" in rows["1"].reason
    assert rows["2"].reason == "its forward was replaced on the instance"
    assert "lazy" in rows["3"].reason
    assert [type(layer) for layer in model[1:]] == [OwnLinear, nn.Linear, nn.LazyLinear]


class Parametrized(nn.Module):
    def __init__(self, parametrization: Any) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = parametrization(nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.mark.parametrize(
    "parametrization",
    [parametrizations.spectral_norm, parametrizations.weight_norm, parametrizations.orthogonal],
)
@pytest.mark.parametrize("rule", ["ss", "fa", "fa-sign", "ss-batch"])
def test_parametrized_weights_are_followed(parametrization: Any, rule: str) -> None:
    model = Parametrized(parametrization)
    state = copy.deepcopy(model.state_dict())
    plain = copy.deepcopy(model)
    ap.convert(model, rule)
    for key, value in model.state_dict().items():
        if key in state:
            assert torch.equal(value, state[key])  # spectral norm was not stepped by looking
    x = torch.randn(2, 4)
    assert torch.equal(model(x), plain(x))
    model.eval()  # in training mode spectral norm changes W from one forward to the next
    assert ap.verify(model, x) == {"first": 1, "second": 1}
    assert copy.deepcopy(model)(x).equal(model(x))
    nn.utils.parametrize.remove_parametrizations(model.second, "weight")
    assert type(model.second) is ap.Linear


def test_a_parametrized_layer_reverts_to_a_parametrized_plain_layer() -> None:
    model = Parametrized(parametrizations.weight_norm)
    ap.revert(ap.convert(model))
    assert nn.utils.parametrize.is_parametrized(model.second)
    nn.utils.parametrize.remove_parametrizations(model.second, "weight")
    assert type(model.second) is nn.Linear


def test_pruned_weights_send_nothing_back_under_ss() -> None:
    layer = prune.l1_unstructured(nn.Linear(4, 4), "weight", amount=0.5)
    model = ap.convert(nn.Sequential(nn.Linear(4, 4), layer), "ss")
    assert ap.verify(model, torch.randn(2, 4)) == {"0": 1, "1": 1}
    assert (layer.feedback_matrix() == 0).sum() == 8


@pytest.mark.parametrize("name", RULES)
def test_a_converted_model_can_be_copied_and_pickled(
    name: str, small_network: nn.Sequential, images: Tensor
) -> None:
    ap.convert(small_network, name, seed=5)
    small_network(images).sum().backward()
    small_network.zero_grad()
    copies = [copy.deepcopy(small_network), pickle.loads(pickle.dumps(small_network))]
    gradients = []
    for model in (small_network, *copies):
        x = images.clone().requires_grad_()
        model(x).square().sum().backward()
        gradients.append(x.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])
    assert ap.summary(copies[0]) == ap.summary(small_network)


def test_a_model_can_be_converted_on_the_meta_device_and_filled_later(
    small_network: nn.Sequential, images: Tensor
) -> None:
    with torch.device("meta"):
        empty = copy.deepcopy(small_network).to("meta")
    reference = ap.convert(copy.deepcopy(small_network), "fa", overrides={"3": "ss-fixed"}, seed=6)
    ap.convert(empty, "fa", overrides={"3": "ss-fixed"}, seed=6)
    empty.to_empty(device="cpu")
    empty.load_state_dict(small_network.state_dict())
    for own, expected in zip(empty.modules(), reference.modules(), strict=True):
        if isinstance(expected, ap.FeedbackLayer):
            assert torch.equal(own.feedback, expected.feedback)
    assert ap.verify(empty, images) == {"0": 1, "3": 1, "6": 1}

    assigned = copy.deepcopy(small_network).to("meta")
    ap.convert(assigned, "fa", overrides={"3": "ss-fixed"}, seed=6)
    assigned.load_state_dict(small_network.state_dict(), assign=True)
    assert torch.equal(assigned[0].feedback, reference[0].feedback)


def test_signs_of_weights_without_values_are_an_error_until_they_are_known(
    small_network: nn.Sequential, images: Tensor
) -> None:
    known = ap.convert(copy.deepcopy(small_network), "fa-sign")
    empty = ap.convert(small_network.to("meta"), "fa-sign").to_empty(device="cpu")
    with pytest.raises(SpecError, match="fa-sign"):
        empty(images)
    empty.load_state_dict(known.state_dict())
    assert torch.equal(empty(images), known(images))
    assert torch.equal(empty[0].feedback, known[0].feedback)
    again = ap.convert(ap.revert(empty).to("meta"), "fa-sign").to_empty(device="cpu")
    ap.initialize(again)
    assert torch.equal(again[0].feedback.sign(), again[0].weight.sign())


def test_feedback_moves_with_the_layer(small_network: nn.Sequential) -> None:
    ap.convert(small_network, "fa")
    feedback = small_network[0].feedback
    small_network.double()
    assert small_network[0].feedback.dtype == torch.float64
    assert torch.equal(small_network[0].feedback.float(), feedback)
    small_network.to("meta")
    assert small_network[0].feedback.is_meta


def test_feedback_is_neither_a_buffer_nor_a_parameter(small_network: nn.Sequential) -> None:
    buffers = [name for name, _ in small_network.named_buffers()]
    ap.convert(small_network, "fa")
    assert [name for name, _ in small_network.named_buffers()] == buffers
    assert not any("feedback" in name for name, _ in small_network.named_parameters())


def test_a_model_built_of_our_layers_and_functions_works_like_a_converted_one() -> None:
    built = nn.Sequential(ap.Linear(4, 6, rule="fa", seed=(2, 0)), ap.Linear(6, 3, rule="bp"))
    plain = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    plain.load_state_dict(dict(built.named_parameters()))
    converted = ap.convert(plain, "fa", overrides={"1": "bp"}, seed=2)
    assert ap.summary(built) == ap.summary(converted)
    x = torch.randn(2, 4, requires_grad=True)
    sent = [torch.autograd.grad(F.relu(m(x)).sum(), x)[0] for m in (built, converted)]
    assert torch.equal(*sent)
