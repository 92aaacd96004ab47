"""Give a model's weight layers a feedback rule, in place, and take it away again."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.utils import parametrize

from antiparallel.spec import Backprop, Rule, Scale, SpecError, UnsupportedError, as_rule
from antiparallel.spec.draws import require_word
from antiparallel.torch.attachment import Attachment, attachment
from antiparallel.torch.inventory import Found, plain_type, weight_layers
from antiparallel.torch.layers import FEEDBACK_LAYERS, FeedbackLayer

_PLAIN_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    layer: plain for plain, layer in FEEDBACK_LAYERS.items()
}


def convert(
    model: nn.Module,
    rule: Rule | str = "ss",
    *,
    overrides: Mapping[str, Rule | str] | None = None,
    scale: Scale = "paper",
    seed: int = 0,
    keep_feedback: bool = True,
    error_dtype: torch.dtype | None = None,
) -> nn.Module:
    """Give every weight layer of a model a feedback rule, in place.

    Layers become those of ``antiparallel.torch`` by a change of class: the objects stay the
    same, and with them parameters, names, hooks, devices, dtypes, modes and sharing. A layer
    whose feedback could not go through B is left alone; ``summary`` says which and why. Either
    everything is converted or, on an error, nothing is changed.

    Args:
        model: The model, or a single layer.
        rule: A rule or its name.
        overrides: Rules for layers whose name matches a glob pattern; ``*`` matches dots too. Of
            several matching patterns the last one counts.
        scale: What lambda is.
        seed: The experiment's seed; weight layer number i draws with index i, counted over all
            weight layers, converted or not.
        keep_feedback: Whether rules keep numbers that never change, one for each weight. Without,
            each backward pass draws them again, on the CPU, the same to the bit, so that ``fa`` and
            ``ss-fixed`` take no more memory than ``ss``, and more time; ``fa-sign`` keeps signs,
            in a byte each.
        error_dtype: What errors are rounded to on their way through B, and B with them, as under
            autocast; None for their own dtype. Forward pass and gradients of weights stay as they
            are. Where bfloat16 is computed faster than float32 a step takes less than backprop's;
            signs are exact in every dtype.

    Returns:
        The model.

    Raises:
        SpecError: A rule, scale, seed or dtype is not allowed, a pattern matches no weight layer,
            the model is converted already, or it has nothing to convert; or weights are NaN whose
            signs ``fa-sign`` is to keep without ``keep_feedback``.
        UnsupportedError: A pattern asks for a rule for a layer that cannot follow it.

    References:
        Xiao et al. (2019), section 3.
    """
    rule = as_rule(rule)
    require_word("seed", seed)
    layers = weight_layers(model)
    rules = _assigned_rules(layers, rule, overrides or {})
    plan = [
        (
            found.module,
            attachment(
                found.module,
                rules[found.index],
                scale,
                (seed, found.index),
                keep_feedback,
                error_dtype,
            ),
        )
        for found in layers
        if not found.obstacle
    ]
    if not plan:
        reasons = "; ".join(f"{found.name}: {found.obstacle}" for found in layers)
        raise SpecError(
            "Expected a model with weight layers that can follow a rule. "
            f"Received: model={type(model).__name__} ({reasons or 'no weight layers'})"
        )
    for module, planned in plan:
        _become(module, planned)
    return model


def revert(model: nn.Module) -> nn.Module:
    """Turn a model's layers back into those of ``torch.nn``, in place.

    Args:
        model: A converted model, or one built of ``antiparallel.torch`` layers.

    Returns:
        The model, with the same parameters.

    Raises:
        SpecError: No layer has a rule.
        UnsupportedError: A layer's class is a user's own subclass.
    """
    layers = [module for module in model.modules() if isinstance(module, FeedbackLayer)]
    if not layers:
        raise SpecError(
            f"Expected a model with layers that follow a rule. Received: {type(model).__name__}"
        )
    for layer in layers:
        if plain_type(layer) not in _PLAIN_LAYERS:
            raise UnsupportedError(
                "Expected layers of antiparallel.torch itself, not subclasses. "
                f"Received: {type(layer).__qualname__}"
            )
    for layer in layers:
        layer.detach_rule()
        _change_class(layer, _PLAIN_LAYERS[plain_type(layer)])
    return model


def _assigned_rules(
    layers: list[Found], rule: Rule, overrides: Mapping[str, Rule | str]
) -> dict[int, Rule]:
    """Return the rule of each weight layer by its index, after checking every request."""
    for found in layers:
        if isinstance(found.module, FeedbackLayer):
            raise SpecError(
                "Expected a model whose layers have no rule yet; revert it first. "
                f"Received: layer {found.name!r} with rule={found.module.rule.name!r}"
            )
    rules = {found.index: rule for found in layers}
    for pattern, override in overrides.items():
        override = as_rule(override)
        matches = [
            found for found in layers if any(fnmatchcase(name, pattern) for name in found.names)
        ]
        if not matches:
            names = ", ".join(found.name for found in layers)
            raise SpecError(
                f"Expected a pattern that matches a weight layer ({names}). "
                f"Received: overrides={pattern!r}"
            )
        rules.update({found.index: override for found in matches})
        if override != Backprop() and all(found.obstacle for found in matches):
            raise UnsupportedError(
                "Expected a pattern for layers that can follow a rule, but "
                f"{matches[0].name}: {matches[0].obstacle}. Received: overrides={pattern!r}"
            )
    return rules


def _become(module: nn.Module, planned: Attachment) -> None:
    _change_class(module, FEEDBACK_LAYERS[plain_type(module)])
    assert isinstance(module, FeedbackLayer)
    module.attach(planned)


def _change_class(module: nn.Module, target: type[nn.Module]) -> None:
    if parametrize.is_parametrized(module):
        # Parametrizing makes a subclass for the one module, which holds the property "weight".
        own = type(module)
        members = {k: v for k, v in vars(own).items() if k not in ("__dict__", "__weakref__")}
        target = type(own.__name__, (target,), members)
    module.__class__ = target
