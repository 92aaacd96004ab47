"""Give a model's weight layers a feedback rule, in place, and take it away again."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import keras

from antiparallel.keras.attachment import attachment, signs_of, state_name
from antiparallel.keras.bypass import hidden_layers
from antiparallel.keras.inventory import Found, weight_layers
from antiparallel.keras.layers import FEEDBACK_LAYERS, FeedbackLayer
from antiparallel.keras.layout import kernels
from antiparallel.spec import Backprop, Rule, Scale, SpecError, UnsupportedError, as_rule
from antiparallel.spec.draws import require_word

_PLAIN_LAYERS: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    layer: plain for plain, layer in FEEDBACK_LAYERS.items()
}


def convert(
    model: keras.layers.Layer,
    rule: Rule | str = "ss",
    *,
    overrides: Mapping[str, Rule | str] | None = None,
    scale: Scale = "paper",
    seed: int = 0,
    keep_feedback: bool = True,
    error_dtype: str | None = None,
) -> keras.layers.Layer:
    """Give every weight layer of a built model a feedback rule, in place.

    Layers become those of ``antiparallel.keras`` by a change of class: the objects stay the
    same, and with them variables, values, names, trainable flags, sharing, and the graph of a
    Functional model; nothing is cloned, so subclassed models and layers inside custom layers are
    converted alike. A compiled model traces its functions anew at the next step. A layer whose
    feedback could not go through B is left alone; ``summary`` says which and why. Either everything
    is converted or, on an error, nothing is changed.

    Under ``tf.distribute`` call it inside the strategy's scope, as everything that makes variables.

    Args:
        model: The model, or a single layer.
        rule: A rule or its name.
        overrides: Rules for layers whose name (``outer/inner/layer``) matches a glob pattern; ``*``
            matches slashes too. Of several matching patterns the last one counts.
        scale: What lambda is.
        seed: The experiment's seed; weight layer number i draws with index i, counted over all
            weight layers, converted or not. A separable convolution counts as two.
        keep_feedback: Whether rules keep numbers that never change, one for each weight. Without,
            each backward pass draws them again, on the CPU, the same to the bit, so that ``fa`` and
            ``ss-fixed`` take no more memory than ``ss``, and more time (on TensorFlow also without
            ``jit_compile``); ``fa-sign`` keeps signs, in a byte each.
        error_dtype: What errors are rounded to on their way through B, and B with them, as under
            a mixed policy; None for their own dtype. Forward pass and gradients of weights stay as
            they are. Where bfloat16 is computed faster than float32 a step takes less than
            backprop's; signs are exact in every dtype.

    Returns:
        The model.

    Raises:
        SpecError: A rule, scale, seed or dtype is not allowed, a pattern matches no weight layer,
            the model is not built or is converted already, or it has nothing to convert; or weights
            are NaN whose signs ``fa-sign`` is to keep without ``keep_feedback``.
        UnsupportedError: A pattern asks for a rule for a layer that cannot follow it, or a Lambda
            layer hides weights.

    References:
        Xiao et al. (2019), section 3.
    """
    rule = as_rule(rule)
    require_word("seed", seed)
    layers = weight_layers(model)
    _require_convertible(model, layers)
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
        if state_name(planned.rule, planned.keep_feedback) == "feedback_signs":
            for kernel in kernels(module):
                signs_of(module, kernel)  # refuses NaN
    for module, planned in plan:
        module.__class__ = FEEDBACK_LAYERS[type(module)]
        assert isinstance(module, FeedbackLayer)
        module.attach(planned)
    _forget_compiled_functions(model)
    return model


def revert(model: keras.layers.Layer) -> keras.layers.Layer:
    """Turn a model's layers back into those of ``keras.layers``, in place.

    Args:
        model: A converted model, or one built of ``antiparallel.keras`` layers.

    Returns:
        The model, with the same weights.

    Raises:
        SpecError: No layer has a rule.
        UnsupportedError: A layer's class is a user's own subclass.
    """
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, FeedbackLayer)]
    if not layers:
        raise SpecError(
            f"Expected a model with layers that follow a rule. Received: {type(model).__name__}"
        )
    for layer in layers:
        if type(layer) not in _PLAIN_LAYERS:
            raise UnsupportedError(
                "Expected layers of antiparallel.keras itself, not subclasses. "
                f"Received: {type(layer).__qualname__}"
            )
    for layer in layers:
        layer.detach_rule()
        layer.__class__ = _PLAIN_LAYERS[type(layer)]
    _forget_compiled_functions(model)
    return model


def _require_convertible(model: keras.layers.Layer, layers: list[Found]) -> None:
    """Refuse a model that would be converted by half, or not at all."""
    for found in layers:
        if isinstance(found.module, FeedbackLayer):
            raise SpecError(
                "Expected a model whose layers have no rule yet; revert it first. "
                f"Received: layer {found.name!r} with rule={found.module.rule.name!r}"
            )
    unbuilt = [found.name for found in layers if not found.module.built]
    if unbuilt or not model.built:
        raise SpecError(
            "Expected a built model: call it once, or build it, then convert. "
            f"Received: model={model.name!r}, not built: {', '.join(unbuilt) or 'all of it'}"
        )
    if hidden := hidden_layers(model):
        raise UnsupportedError(
            "Expected weights in layers that the model holds, not in what a Lambda layer's "
            f"function uses; make it a layer. Received: {hidden}"
        )


def _assigned_rules(
    layers: list[Found], rule: Rule, overrides: Mapping[str, Rule | str]
) -> dict[int, Rule]:
    """Return the rule of each weight layer by its index, after checking every request."""
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


def _forget_compiled_functions(model: keras.layers.Layer) -> None:
    """Have compiled models trace their functions, which know the layers as they were, anew."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None
