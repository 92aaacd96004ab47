"""The proof, at run time, that a model's errors go back through B."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from antiparallel.spec import Backprop, SpecError, fan_out
from antiparallel.torch.inventory import weight_layers
from antiparallel.torch.layers import FeedbackLayer
from antiparallel.torch.layout import geometry, weight_of


class FeedbackError(AssertionError):
    """A layer that is reported as converted did not send its error through B."""


@dataclass
class _Call:
    """One call of a layer: what entered, what error arrived, what should be sent for it."""

    entering: Tensor
    inside: set[Any] = field(default_factory=set)
    arrived: bool = False
    expected: Tensor | None = None
    by_weight: Tensor | None = None
    tolerance: Tensor | None = None


def verify(model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, int]:
    """Prove that every converted layer sends its error through B, on one forward and backward.

    The error that each call of a layer sends to its input is captured and compared with the
    derivative of torch's own operation with B in the place of W. So that the proof does not
    depend on how errors grow or vanish on their way, each call gets a random error in place of
    the one that arrives. Parameters, their gradients, buffers, random state and counts are as
    before afterwards.

    Args:
        model: A converted model, or one built of ``antiparallel.torch`` layers; not compiled.
        *args: What the model is called with. Detection models need targets, in training mode:
            without a loss, little of them has a gradient.
        **kwargs: Keyword arguments of the call.

    Returns:
        For each layer, by name, how many of its calls were compared.

    Raises:
        SpecError: No layer has a rule.
        FeedbackError: A layer's error was not computed with B; a layer was not called, or no
            error arrived at it, so that nothing is proved; or its weight was used without calling
            it. Names every such layer.

    Tolerance: of a sum of n products, ``|B|^T |dy|`` being the sum of their absolute values a,
    ``8 (sqrt(n) u a + u' (|dx| + a / sqrt(n)))``: the probabilistic bound of Higham and Mary
    (2019), "A new approach to probabilistic rounding error analysis", for sums with unit roundoff
    u, and the rounding of results and partial sums, a random walk of size ``a / sqrt(n)``, to
    the stored dtype's u'. Narrow dtypes are summed in float32.
    """
    layers = {
        found.name: found.module
        for found in weight_layers(model)
        if isinstance(found.module, FeedbackLayer) and not found.obstacle
    }
    if not layers:
        raise SpecError(
            f"Expected a model with layers that follow a rule. Received: {type(model).__name__}"
        )
    calls: dict[str, list[_Call]] = {name: [] for name in layers}
    with _as_before(model), _recording(layers, calls), torch.enable_grad():
        loss = _loss(model(*args, **kwargs))
        strangers = _used_without_call(loss, model, layers, calls)
        recorded = [call for made in calls.values() for call in made]
        entering = [call.entering for call in recorded]
        sent = torch.autograd.grad(loss, entering, allow_unused=True) if entering else ()
    errors = dict(zip(map(id, recorded), sent, strict=True))
    problems = {
        name: strangers.get(name)
        or _problem(layer, [(call, errors.get(id(call))) for call in calls[name]])
        for name, layer in layers.items()
    }
    if any(problems.values()):
        lines = [f"{name or '(model)'}: {text}" for name, text in problems.items() if text]
        raise FeedbackError(
            "Expected every error to go back through B. Received:\n" + "\n".join(lines)
        )
    return {name: sum(call.arrived for call in made) for name, made in calls.items()}


@contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """Restore buffers, counts and random state."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    counted = [module for module in model.modules() if isinstance(module, FeedbackLayer)]
    counts = [module.backward_count for module in counted]
    try:
        with torch.random.fork_rng():
            yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for module, count in zip(counted, counts, strict=True):
            module.backward_count = count


@contextmanager
def _recording(layers: dict[str, Any], calls: dict[str, list[_Call]]) -> Iterator[None]:
    """Record every call of the layers: a fresh view of what enters, the error that arrives."""

    def before(made: list[_Call]) -> Any:
        def enter(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not torch.is_grad_enabled():
                return None
            x = args[0] if args else kwargs["input"]
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            made.append(_Call(x))
            return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "input": x})

        return enter

    def after(layer: Any, made: list[_Call]) -> Any:
        def leave(_: Any, args: Any, kwargs: Any, y: Any) -> None:
            if not torch.is_grad_enabled():
                return
            call = made[-1]
            call.inside = set(_nodes(y.grad_fn, stop=call.entering.grad_fn))
            # The view in ``entering`` would keep its graph alive; shape and layout are enough.
            like = call.entering.detach()
            y.register_hook(lambda error: _receive(layer, call, like, error))

        return leave

    handles = []
    for name, layer in layers.items():
        made = calls[name]
        handles.append(layer.register_forward_pre_hook(before(made), with_kwargs=True))
        handles.append(
            layer.register_forward_hook(after(layer, made), with_kwargs=True, prepend=True)
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _receive(layer: Any, call: _Call, x: Tensor, error: Tensor) -> Tensor:
    """Put a test error in the arriving one's place, and work out what is to be sent for it."""
    call.arrived = True
    error = torch.randn_like(error)
    feedback = layer.feedback_matrix()
    rounded = error
    if not isinstance(layer.rule, Backprop):
        rounded = error if layer.error_dtype is None else error.to(layer.error_dtype)
        call.by_weight = _native_input_gradient(layer, weight_of(layer), x, rounded)
    call.expected = _native_input_gradient(layer, feedback, x, rounded)
    absolute = _native_input_gradient(layer, feedback.abs(), x, rounded.abs()).abs()
    call.tolerance = _tolerance(call.expected, absolute, fan_out(geometry(layer)))
    return error


def _native_input_gradient(layer: Any, weight: Tensor, x: Tensor, error: Tensor) -> Tensor:
    """Return the error sent to x by torch's own layer with these weights."""
    with torch.enable_grad():
        x = x.detach().to(error.dtype).requires_grad_()
        weight = weight.to(error.dtype)
        if isinstance(layer, nn.Linear):
            y = F.linear(x, weight)
        elif isinstance(layer, nn.modules.conv._ConvTransposeNd):
            native: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
            rank = len(layer.kernel_size)
            full = native[rank - 1](
                x, weight, None, layer.stride, layer.padding, 0, layer.groups, layer.dilation
            )
            extra = [e - n for e, n in zip(error.shape[-rank:], full.shape[-rank:], strict=True)]
            y = native[rank - 1](
                x, weight, None, layer.stride, layer.padding, extra, layer.groups, layer.dilation
            )
        else:
            plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(layer.kernel_size) - 1]
            y = plain._conv_forward(layer, x, weight, None)
        return torch.autograd.grad(y, x, error)[0].detach()


def _tolerance(expected: Tensor, absolute: Tensor, terms: int) -> Tensor:
    """Return what rounding explains, element by element; ``absolute`` is ``|B|^T |dy|``."""
    narrow = expected.dtype in (torch.bfloat16, torch.float16)
    summed = torch.finfo(torch.float32 if narrow else expected.dtype).eps / 2
    uses_tf32 = expected.is_cuda and expected.dtype == torch.float32
    stored = 2.0**-11 if uses_tf32 else torch.finfo(expected.dtype).eps / 2
    root = sqrt(terms)
    return 8 * (root * summed * absolute + stored * (expected.abs() + absolute / root))


def _problem(layer: Any, made: list[tuple[_Call, Tensor | None]]) -> str:
    """Return what is wrong with a layer's calls, in words; empty if nothing is."""
    if not made:
        return "was never called with gradients enabled"
    arrived = [(call, sent) for call, sent in made if call.arrived]
    if not arrived:
        return "no error arrived at its output or its input"
    told_apart = isinstance(layer.rule, Backprop)
    for number, (call, sent) in enumerate(arrived, start=1):
        if sent is None:
            return f"sent no error to its input in call {number}"
        assert call.expected is not None
        assert call.tolerance is not None
        difference = (sent.to(call.expected.dtype) - call.expected).abs()
        # Not "any greater", which NaN would pass.
        if not bool((difference <= call.tolerance).all()):
            excess = (difference - call.tolerance).max()
            return (
                f"sent another error than B gives in call {number}: it is off by up to "
                f"{difference.max():.3g}, which is {excess:.3g} above what rounding explains"
            )
        if call.by_weight is not None:
            apart = (call.by_weight - call.expected).abs() > 2 * call.tolerance
            told_apart = told_apart or bool(apart.any())
    return "" if told_apart else "B and W give the same error here, so nothing is proved"


def _used_without_call(
    loss: Tensor,
    model: nn.Module,
    layers: dict[str, Any],
    calls: dict[str, list[_Call]],
) -> dict[str, str]:
    """Return, by layer, which operation uses its parameters outside of any call of it."""
    inside = {node for made in calls.values() for call in made for node in call.inside}
    owners: dict[Tensor, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append(module)
    known = {module for layer in layers.values() for module in layer.modules()}
    names: dict[Tensor, str] = {}
    for name, layer in layers.items():
        for parameter in layer.parameters():
            if set(owners[parameter]) <= known:  # others may use a parameter that they own too
                names[parameter] = name
    strangers: dict[str, str] = {}
    for node in _nodes(loss.grad_fn):
        if node in inside:
            continue
        for following, _ in node.next_functions:
            leaf = getattr(following, "variable", None)
            if leaf is not None and leaf in names:
                strangers[names[leaf]] = f"its parameters are used by {node.name()} outside it"
    return strangers


def _nodes(start: Any, stop: Any = None) -> Iterable[Any]:
    """Return the nodes of a graph from one on, up to and without another."""
    seen: set[Any] = set()
    waiting = [start]
    while waiting:
        node = waiting.pop()
        if node is None or node is stop or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return seen


def _loss(output: Any) -> Tensor:
    """Return a sum of everything that has a gradient, weighted so that nothing cancels."""
    tensors = [
        leaf
        for leaf in tree_leaves(output)
        if isinstance(leaf, Tensor) and leaf.requires_grad and leaf.is_floating_point()
    ]
    if not tensors:
        raise SpecError(f"Expected outputs with gradients. Received: {type(output).__name__}")
    total = torch.zeros((), device=tensors[0].device)
    for tensor in tensors:
        weights = torch.arange(1, tensor.numel() + 1, device=tensor.device).cos()
        total = total + (tensor.float() * weights.reshape(tensor.shape)).sum()
    return total
