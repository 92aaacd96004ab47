"""Fixed feedback that is not kept but drawn again: the same bits, without the memory."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import antiparallel.torch as ap
from antiparallel.spec import RULES, SpecError
from antiparallel.torch import layout

FIXED = ("ss-fixed", "fa", "fa-sign")
"""The rules with numbers that never change."""

# torch's own, at the first even kernel of a process
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
while_compiling = pytest.mark.filterwarnings(
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)


@pytest.fixture(params=FIXED)
def fixed(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The layer indices that were drawn for, in order."""
    seen: list[int] = []
    draw: Callable[..., Any] = layout.draw

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["index"])
        return draw(*args, **kwargs)

    monkeypatch.setattr(layout, "draw", counted)
    return seen


def pair(plain: nn.Module, rule: str, **options: Any) -> list[nn.Module]:
    """Return two converted copies of a model: one keeps its feedback, one does not."""
    return [
        ap.convert(copy.deepcopy(plain), rule, keep_feedback=keep, **options)
        for keep in (True, False)
    ]


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(6 * 17 * 17, 5),
    )


def trained(model: nn.Module, images: Tensor, autocast: bool) -> list[Tensor]:
    """Return the errors at the pictures in three steps, and the weights after them."""
    optimizer = ap.SGD(model.parameters(), lr=0.01, momentum=0.9)
    sent = []
    for _ in range(3):
        x = images.clone().requires_grad_()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        assert x.grad is not None
        sent.append(x.grad)
    return [*sent, *(parameter.detach() for parameter in model.parameters())]


def error_sent(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    model(x).square().sum().backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_training_without_kept_feedback_takes_the_same_steps_to_the_bit(
    rule: str, dtype: torch.dtype, images: Tensor
) -> None:
    kept, redrawn = pair(network().to(dtype), rule, seed=3)
    ends = [trained(model, images.to(dtype), autocast=False) for model in (kept, redrawn)]
    for own, expected in zip(*ends, strict=True):
        assert torch.equal(own, expected)


def test_training_under_autocast_takes_the_same_steps_to_the_bit(
    fixed: str, images: Tensor
) -> None:
    ends = [trained(model, images, autocast=True) for model in pair(network(), fixed)]
    for own, expected in zip(*ends, strict=True):
        assert torch.equal(own, expected)


def test_every_kind_of_layer_sends_the_same_error(case: Any, fixed: str) -> None:
    x = case.input()
    kept, redrawn = pair(case.plain(**case.arguments), fixed)
    assert torch.equal(error_sent(redrawn, x), error_sent(kept, x))
    torch.manual_seed(1)
    built = case.layer(fixed, seed=(0, 0), keep_feedback=False)
    torch.manual_seed(1)
    assert torch.equal(case.layer(fixed, seed=(0, 0)).feedback_matrix(), built.feedback_matrix())


def test_the_error_is_proved_to_go_back_through_b(fixed: str, images: Tensor) -> None:
    assert ap.verify(pair(network(), fixed)[1], images) == {"0": 1, "3": 1, "6": 1}


def test_nothing_of_the_weights_size_is_kept_but_signs_in_a_byte_each(
    fixed: str, images: Tensor
) -> None:
    layer = pair(nn.Conv2d(3, 4, 3), fixed)[1]
    held = [value for value in vars(layer).values() if isinstance(value, Tensor)]
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        layer(images.requires_grad_()).sum()
    assert isinstance(layer, ap.Conv2d)
    known = {images.data_ptr(), layer.weight.data_ptr(), *(value.data_ptr() for value in held)}
    assert all(tensor.data_ptr() in known for tensor in saved if tensor.numel() > 1)
    row = ap.summary(layer)[""]
    if fixed == "fa-sign":
        (signs,) = held
        assert signs.dtype == torch.int8
        assert row.feedback_parameters == layer.weight.numel()
    else:
        assert not held
        assert row.feedback_parameters == 0


@pytest.mark.parametrize("rule", ["ss-fixed", "fa"])
def test_a_backward_pass_draws_once_a_layer_and_not_where_no_error_is_sent(
    rule: str, images: Tensor, draws: list[int]
) -> None:
    model = pair(network(), rule)[1]
    draws.clear()
    loss = model(images).sum()
    assert not draws
    loss.backward()
    assert draws == [2, 1]  # the first layer's input needs no error


def test_two_backward_passes_over_one_graph_send_the_same_error(fixed: str, images: Tensor) -> None:
    model = pair(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), fixed)[1]
    x = images.requires_grad_()
    loss = model(x).square().sum()
    first = torch.autograd.grad(loss, x, retain_graph=True)
    assert torch.equal(*first, *torch.autograd.grad(loss, x))


def test_gradient_checkpointing_sends_the_same_error(fixed: str, images: Tensor) -> None:
    model = pair(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), fixed)[1]
    x = images.requires_grad_()
    y: Tensor = checkpoint(model, x, use_reentrant=False)
    (sent,) = torch.autograd.grad(y.square().sum(), x)
    assert torch.equal(sent, error_sent(model, images.detach()))


def test_under_torch_func_the_same_error_is_sent(fixed: str) -> None:
    kept, redrawn = pair(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)), fixed)
    x = torch.randn(2, 4)
    sent = [torch.func.grad(lambda x, m=m: m(x).square().sum())(x) for m in (kept, redrawn)]
    assert torch.equal(*sent)


@while_compiling
def test_compiled_it_sends_the_same_error(fixed: str, images: Tensor) -> None:
    kept, redrawn = pair(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), fixed)
    torch.compiler.reset()
    whole = fixed == "fa-sign"  # which draws nothing
    compiled: Any = torch.compile(redrawn, fullgraph=whole, backend="aot_eager")
    for _ in range(2):
        found, expected = error_sent(compiled, images), error_sent(kept, images)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@while_compiling
@pytest.mark.parametrize("rule", ["ss-fixed", "fa"])
def test_drawing_in_one_whole_graph_is_an_error_that_says_why(rule: str, images: Tensor) -> None:
    layer = pair(nn.Conv2d(3, 4, 3), rule)[1]
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="that are not kept, draw outside the compiled graph"):
        compiled(images.requires_grad_()).sum().backward()


def test_the_option_is_shown_where_feedback_is_not_kept() -> None:
    assert "keep_feedback" not in repr(ap.Linear(4, 3, rule="fa"))
    assert "rule=fa, keep_feedback=False" in repr(ap.Linear(4, 3, rule="fa", keep_feedback=False))


@pytest.mark.clause("R8")
@pytest.mark.parametrize(
    ("rule", "key", "dtype"),
    [
        ("ss-fixed", "magnitude_seed", torch.uint64),
        ("fa", "feedback_seed", torch.uint64),
        ("fa-sign", "feedback_signs", torch.int8),
    ],
)
def test_a_checkpoint_holds_what_numbers_are_made_of_again(
    rule: str, key: str, dtype: torch.dtype, images: Tensor
) -> None:
    saved = pair(network(), rule, seed=2**64 - 1)[1]
    state = saved.state_dict()
    assert state[f"6.{key}"].dtype == dtype
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded = pair(network(), rule, seed=5)[1]  # another seed: all comes from the file
    loaded.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(error_sent(loaded, images), error_sent(saved, images))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("keeps", [True, False])
def test_a_checkpoint_of_the_other_kind_is_an_error_and_changes_nothing(
    fixed: str, keeps: bool, strict: bool
) -> None:
    layer = ap.Linear(4, 3, rule=fixed, keep_feedback=keeps)
    before = copy.deepcopy(layer.state_dict())
    other = ap.Linear(4, 3, rule=fixed, keep_feedback=not keeps).state_dict()
    with pytest.raises(RuntimeError, match=f"same keep_feedback, which is {keeps}"):
        layer.load_state_dict(other, strict=strict)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("rule", "key", "wrong"),
    [
        ("fa", "feedback_seed", torch.zeros(3, dtype=torch.uint64)),
        ("ss-fixed", "magnitude_seed", torch.zeros(2)),
        ("fa-sign", "feedback_signs", torch.zeros(3, 4)),
        ("fa-sign", "feedback_signs", torch.zeros(4, 3, dtype=torch.int8)),
    ],
)
def test_an_entry_that_does_not_fit_is_an_error(rule: str, key: str, wrong: Tensor) -> None:
    layer = ap.Linear(4, 3, rule=rule, keep_feedback=False)
    with pytest.raises(RuntimeError, match=f"Received: {key}="):
        layer.load_state_dict(layer.state_dict() | {key: wrong})


def test_a_model_can_be_copied_and_pickled(fixed: str, images: Tensor) -> None:
    model = pair(network(), fixed)[1].eval()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(error_sent(twin, images), error_sent(model, images))
        assert ap.summary(twin) == ap.summary(model)


def test_a_model_is_reverted_to_the_plain_one(fixed: str) -> None:
    plain = network()
    reverted = ap.revert(pair(plain, fixed)[1])
    assert vars(reverted[0]).keys() == vars(plain[0]).keys()
    assert reverted.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("rule", ["ss-fixed", "fa"])
def test_a_model_can_be_converted_on_the_meta_device_and_filled_later(
    rule: str, images: Tensor
) -> None:
    plain = network()
    kept, redrawn = pair(plain, rule, seed=6)
    empty = ap.convert(copy.deepcopy(plain).to("meta"), rule, seed=6, keep_feedback=False)
    empty.to_empty(device="cpu").load_state_dict(plain.state_dict())
    assert torch.equal(error_sent(empty, images), error_sent(kept, images))
    assert empty.state_dict().keys() == redrawn.state_dict().keys()


def test_signs_of_weights_without_values_come_from_a_checkpoint(images: Tensor) -> None:
    known = pair(network(), "fa-sign")[1]
    empty = ap.convert(network().to("meta"), "fa-sign", keep_feedback=False)
    empty.to_empty(device="cpu")
    with pytest.raises(SpecError, match="fa-sign"):
        empty(images)
    empty.load_state_dict(known.state_dict())
    assert torch.equal(error_sent(empty, images), error_sent(known, images))


def test_numbers_are_drawn_in_the_dtype_that_the_weights_have_now(fixed: str) -> None:
    plain = nn.Linear(4, 3)
    moved = pair(plain, fixed)[1].double()
    attached = pair(plain.double(), fixed)[0]
    assert isinstance(moved, ap.Linear)
    assert isinstance(attached, ap.Linear)
    assert torch.equal(moved.feedback_matrix(), attached.feedback_matrix())


def test_initialising_takes_the_signs_of_the_new_weights() -> None:
    layer = ap.initialize(pair(nn.Conv2d(3, 4, 3), "fa-sign")[1], seed=8)
    assert isinstance(layer, ap.Conv2d)
    assert layer.feedback is not None
    assert layer.feedback.dtype == torch.int8
    assert torch.equal(layer.feedback_matrix(), layer.weight.sign() * layer.feedback_scale)


def test_signs_of_nan_are_refused_and_nothing_is_changed() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
    with pytest.raises(SpecError, match="Received: 1 NaN in weights of shape"):
        ap.convert(model, "fa-sign", keep_feedback=False)
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear]
    ap.convert(model, "fa", keep_feedback=False)
