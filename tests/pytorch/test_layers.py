"""One layer at a time: forward as torch's own, the error through B."""

import inspect
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


def error_sent(layer: Any, x: Tensor, error: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    layer(x).backward(error)
    assert x.grad is not None
    return x.grad


def assert_sends_through_b(case: Any, layer: Any, x: Tensor) -> None:
    error = torch.randn_like(layer(x))
    expected, bound = case.expected_error(layer, x, error)
    sent = error_sent(layer, x, error)
    assert sent.dtype == x.dtype
    assert ((sent.double() - expected).abs() <= bound).all()


def test_forward_is_bit_identical_to_torchs_own(case: Any, rule: str) -> None:
    torch.manual_seed(1)
    plain = case.plain(**case.arguments)
    torch.manual_seed(1)
    layer = case.layer(rule)
    x = case.input()
    assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_error_goes_back_through_b(case: Any, rule: str, dtype: torch.dtype) -> None:
    layer = case.layer(rule, dtype=dtype)
    assert_sends_through_b(case, layer, case.input(dtype))


def test_gradients_of_weight_and_bias_are_the_ordinary_ones(case: Any, rule: str) -> None:
    layer, x = case.layer(rule, dtype=torch.float64), case.input(torch.float64)
    plain = case.layer("bp", dtype=torch.float64)
    plain.load_state_dict(dict(layer.named_parameters()))
    error = torch.randn_like(layer(x))
    error_sent(layer, x, error)
    error_sent(plain, x, error)
    for own, ordinary in zip(layer.parameters(), plain.parameters(), strict=True):
        # float64 sums of at most a few hundred products of size one
        assert torch.allclose(own.grad, ordinary.grad, rtol=0, atol=1e-11)


def test_bp_gives_exactly_the_gradients_of_autograd(case: Any) -> None:
    layer, plain = case.layer("bp"), case.plain(**case.arguments)
    plain.load_state_dict(layer.state_dict())
    x = case.input()
    error = torch.randn_like(plain(x))
    assert torch.equal(error_sent(layer, x, error), error_sent(plain, x, error))
    for own, ordinary in zip(layer.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own.grad, ordinary.grad)


def test_signature_is_torchs_own_with_the_rule_s_arguments(case: Any) -> None:
    own = list(inspect.signature(case.with_rule).parameters)
    assert own == [
        *inspect.signature(case.plain).parameters,
        "rule",
        "scale",
        "seed",
        "keep_feedback",
        "error_dtype",
    ]


def test_ss_follows_the_sign_of_w_at_every_step() -> None:
    layer = ap.Linear(4, 3, rule="ss")
    with torch.no_grad():
        layer.weight[0, 0] = 0.0
        before = layer.feedback_matrix()
        layer.weight.neg_()
    assert before[0, 0] == 0
    assert torch.equal(layer.feedback_matrix(), -before)
    sent = error_sent(layer, torch.randn(1, 4), torch.tensor([[1.0, 0.0, 0.0]]))
    assert torch.equal(sent[0], -before[0])


@pytest.mark.clause("R7")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rule", ["ss", "ss-fixed", "ss-batch", "fa-sign"])
def test_signs_of_extreme_weights_are_exact(rule: str, dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    subnormal = limits.smallest_normal * limits.eps
    values = [0.0, -0.0, subnormal, -subnormal, limits.max, -limits.max, float("inf"), float("nan")]
    plain = nn.Linear(1, len(values), dtype=dtype)
    with torch.no_grad():
        plain.weight.copy_(torch.tensor(values, dtype=torch.float64)[:, None])
    feedback = ap.convert(plain, rule).feedback_matrix()[:, 0]
    assert feedback[:-1].sign().tolist() == [0, 0, 1, -1, 1, -1, 1]
    assert feedback[-1].isnan()
    if rule in ("ss", "fa-sign"):
        assert (
            feedback[2:-1].abs()
            == torch.tensor(plain.feedback_scale, dtype=torch.float64).to(dtype)
        ).all()


def test_ss_keeps_no_feedback_between_passes() -> None:
    layer = ap.Conv2d(3, 4, 3, rule="ss")
    assert layer.feedback is None
    assert list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("rule", ["fa", "fa-sign"])
def test_fixed_feedback_does_not_follow_w(rule: str) -> None:
    layer = ap.Linear(4, 3, rule=rule)
    before = layer.feedback_matrix().clone()
    with torch.no_grad():
        layer.weight.neg_()
    assert torch.equal(layer.feedback_matrix(), before)


def test_ss_batch_draws_anew_at_every_backward_and_at_no_forward() -> None:
    layer = ap.Linear(4, 3, rule="ss-batch", seed=5)
    x, error = torch.randn(2, 4), torch.randn(2, 3)
    first = layer.feedback_matrix()
    layer(x)
    assert torch.equal(layer.feedback_matrix(), first)
    sent = [error_sent(layer, x, error) for _ in range(2)]
    assert not torch.equal(sent[0], sent[1])
    assert torch.allclose(sent[0], error @ first)
    assert layer.backward_count == 2


@pytest.mark.clause("R4")
def test_a_backward_pass_counts_also_where_the_input_needs_no_error() -> None:
    layer = ap.Linear(4, 3, rule="ss-batch", seed=5)
    layer(torch.randn(2, 4)).sum().backward()
    assert layer.backward_count == 1


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_other_padding_modes_pass_the_error_by_their_own_derivative(mode: Any) -> None:
    layer = ap.Conv2d(2, 3, 3, padding=(2, 1), padding_mode=mode, rule="fa", dtype=torch.float64)
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    plain = nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode=mode, dtype=torch.float64)
    plain.load_state_dict(dict(layer.named_parameters()))
    assert torch.equal(layer(x), plain(x))
    error = torch.randn_like(plain(x))
    with torch.no_grad():
        plain.weight.copy_(layer.feedback_matrix())
    expected = error_sent(plain, x, error)
    assert torch.allclose(error_sent(layer, x, error), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", [1, "same"])
def test_unbatched_input_is_a_batch_of_one(padding: Any) -> None:
    layer = ap.Conv2d(2, 3, 3, padding=padding, rule="fa")
    x = torch.randn(2, 5, 6)
    error = torch.randn(3, 5, 6)
    assert torch.equal(layer(x), layer(x[None])[0])
    assert torch.equal(error_sent(layer, x, error), error_sent(layer, x[None], error[None])[0])
    transposed = ap.ConvTranspose1d(2, 3, 3, rule="fa")
    assert torch.equal(transposed(x[0, :2]), transposed(x[None, 0, :2])[0])
    dense = ap.Linear(6, 3, rule="fa")
    assert error_sent(dense, x[0, 0], torch.ones(3)).shape == (6,)


@pytest.mark.clause("N8")
def test_an_empty_batch_gives_empty_errors_and_zero_gradients(case: Any, rule: str) -> None:
    layer = case.layer(rule)
    x = case.input()[:0]
    sent = error_sent(layer, x, torch.zeros_like(layer(x)))
    assert sent.shape == x.shape
    assert all(parameter.grad.abs().sum() == 0 for parameter in layer.parameters())


def test_input_that_needs_no_gradient_still_trains_the_layer(case: Any, rule: str) -> None:
    layer, x = case.layer(rule), case.input()
    layer(x).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_frozen_weights_still_send_the_error_through_b(case: Any, rule: str) -> None:
    layer = case.layer(rule).requires_grad_(False)
    assert_sends_through_b(case, layer, case.input())
    assert layer.weight.grad is None


def test_without_gradients_nothing_is_recorded() -> None:
    layer = ap.Linear(4, 3)
    with torch.no_grad():
        assert not layer(torch.randn(2, 4)).requires_grad
    with torch.inference_mode():
        layer(torch.randn(2, 4))


def test_output_size_of_transposed_convolutions_is_respected() -> None:
    layer = ap.ConvTranspose2d(3, 4, 3, stride=2, rule="fa", dtype=torch.float64)
    plain = nn.ConvTranspose2d(3, 4, 3, stride=2, dtype=torch.float64)
    plain.load_state_dict({"weight": layer.feedback_matrix(), "bias": layer.bias})
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    y = layer(x, output_size=[10, 9])
    assert y.shape == (2, 4, 10, 9)
    error = torch.randn_like(y)
    (sent,) = torch.autograd.grad(y, x, error)
    (expected,) = torch.autograd.grad(plain(x, output_size=[10, 9]), x, error)
    assert torch.allclose(sent, expected, rtol=0, atol=1e-12)


def test_channels_last_stays_channels_last() -> None:
    layer = ap.Conv2d(8, 8, 3, padding=1, rule="fa").to(memory_format=torch.channels_last)
    assert layer.feedback is not None
    assert layer.feedback.is_contiguous(memory_format=torch.channels_last)
    plain = nn.Conv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last)
    plain.load_state_dict(dict(layer.named_parameters()))
    x = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
    y = layer(x)
    assert torch.equal(y, plain(x))
    assert y.is_contiguous(memory_format=torch.channels_last)
    error = torch.randn_like(y)
    sent = error_sent(layer, x, error)
    assert sent.is_contiguous(memory_format=torch.channels_last)
    contiguous = layer.to(memory_format=torch.contiguous_format)
    again = error_sent(contiguous, x.contiguous(), error.contiguous())
    assert torch.allclose(sent, again, rtol=0, atol=1e-5)


def test_under_autocast_the_error_is_bf16_inside_and_has_the_inputs_dtype_outside(
    case: Any, rule: str
) -> None:
    layer, plain = case.layer(rule), case.plain(**case.arguments)
    plain.load_state_dict(dict(layer.named_parameters()))
    x = case.input().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y, ordinary = layer(x), plain(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, ordinary)
    seen = []
    y.register_hook(lambda error: seen.append(error.dtype))
    error = torch.randn_like(y)
    expected, bound = case.expected_error(layer, x, error.float())
    y.backward(error)
    assert seen == [torch.bfloat16]
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert layer.weight.grad.dtype == torch.float32
    eps = torch.finfo(torch.bfloat16).eps / torch.finfo(torch.float32).eps
    assert ((x.grad.double() - expected).abs() <= eps * bound).all()


def test_a_layer_in_bf16_and_fp16_sends_errors_of_its_dtype() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        layer = ap.Linear(6, 5, rule="ss", dtype=dtype)
        sent = error_sent(layer, torch.randn(3, 6).to(dtype), torch.randn(3, 5).to(dtype))
        assert sent.dtype == layer.feedback_matrix().dtype == dtype


def test_in_place_operations_may_follow(case: Any, rule: str) -> None:
    layer, x = case.layer(rule, seed=1), case.input().requires_grad_()
    F.relu_(layer(x)).sum().backward()
    assert x.grad is not None
    in_place, x.grad = x.grad, None
    if rule == "ss-batch":
        layer.backward_count = 0
    F.relu(layer(x)).sum().backward()
    assert torch.equal(in_place, x.grad)


def test_changing_weights_between_forward_and_backward_is_an_error(rule: str) -> None:
    layer = ap.Linear(4, 3, rule=rule)
    y = layer(torch.randn(2, 4, requires_grad=True))
    kept = layer.weight if rule.startswith("ss") else layer.feedback
    with torch.no_grad():
        kept.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.clause("F7")
def test_a_layer_used_twice_sends_both_errors_and_adds_up_gradients(rule: str) -> None:
    layer = ap.Linear(4, 4, rule=rule, seed=3, dtype=torch.float64)
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    feedbacks = []
    for _ in range(2):  # B of the first and, for ss-batch another, of the second backward
        feedbacks.append(layer.feedback_matrix())
        layer.backward_count += 1
    layer.backward_count = 0
    layer(layer(x)).backward(torch.ones(2, 4, dtype=torch.float64))
    middle = torch.ones(2, 4, dtype=torch.float64) @ feedbacks[0]
    assert torch.allclose(x.grad, middle @ feedbacks[1], rtol=0, atol=1e-12)
    inner = F.linear(x, layer.weight, layer.bias)
    expected = torch.ones(4, 2, dtype=torch.float64) @ inner + middle.T @ x
    assert torch.allclose(layer.weight.grad, expected, rtol=0, atol=1e-12)


def test_the_graph_may_be_used_twice() -> None:
    layer = ap.Linear(4, 3, rule="ss")
    x = torch.randn(2, 4, requires_grad=True)
    y = layer(x)
    once = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    twice = torch.autograd.grad(y.sum(), x)[0]
    assert torch.equal(once, twice)


@pytest.mark.parametrize("name", RULES)
def test_create_graph_differentiates_the_error_that_was_sent(case: Any, name: str) -> None:
    """d/d(error) of <v, dx> is op(v, B), whatever the rule."""
    layer, x = case.layer(name, seed=2, dtype=torch.float64), case.input(torch.float64)
    x.requires_grad_()
    matrix = layer.feedback_matrix()
    y = layer(x)
    error = torch.randn_like(y, requires_grad=True)
    (sent,) = torch.autograd.grad(y, x, error, create_graph=True)
    v = torch.randn_like(sent)
    (second,) = torch.autograd.grad(sent, error, v)
    linear = case.layer("bp", dtype=torch.float64)
    state = {"weight": matrix}
    if linear.bias is not None:
        state["bias"] = torch.zeros_like(linear.bias)
    linear.load_state_dict(state)
    assert torch.allclose(second, linear(v), rtol=0, atol=1e-11)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(
    rule: str, use_reentrant: bool, small_network: nn.Sequential, images: Tensor
) -> None:
    model = ap.convert(small_network.eval(), rule, seed=4)
    images.requires_grad_()
    model(images).square().sum().backward()
    plainly, images.grad = images.grad, None
    for layer in model.modules():
        if isinstance(layer, ap.FeedbackLayer):
            layer.backward_count = 0
    y: Any = checkpoint(model, images, use_reentrant=use_reentrant)
    y.square().sum().backward()
    assert torch.equal(images.grad, plainly)


def test_the_seed_comes_from_torchs_generator_unless_given() -> None:
    def feedback(**seed: Any) -> Tensor:
        torch.manual_seed(7)
        return ap.Linear(4, 3, rule="fa", **seed).feedback_matrix()

    assert torch.equal(feedback(), feedback())
    torch.manual_seed(8)
    assert not torch.equal(feedback(), ap.Linear(4, 3, rule="fa").feedback_matrix())
    assert torch.equal(feedback(seed=3), ap.Linear(4, 3, rule="fa", seed=(3, 0)).feedback_matrix())
    assert not torch.equal(feedback(seed=(3, 0)), feedback(seed=(3, 1)))


def test_rules_without_draws_leave_torchs_generator_alone() -> None:
    def next_number(kind: Any) -> Tensor:
        torch.manual_seed(7)
        kind(4, 3)
        return torch.rand(())

    assert torch.equal(next_number(ap.Linear), next_number(nn.Linear))


@pytest.mark.parametrize(
    "arguments",
    [
        {"rule": "hebb"},
        {"scale": "large"},
        {"scale": -1.0},
        {"rule": "fa", "seed": -1},
        {"rule": "fa", "seed": 2.5},
        {"rule": "fa", "seed": (1, 2, 3)},
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="Received: "):
        ap.Linear(4, 3, **arguments)
