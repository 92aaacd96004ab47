"""The specification's initial weights, for a torch model."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from antiparallel.spec import FeedbackAlignment, Scale, SpecError, UnsupportedError, feedback_scale
from antiparallel.spec.draws import Purpose
from antiparallel.torch.attachment import kept_feedback
from antiparallel.torch.inventory import weight_layers
from antiparallel.torch.layers import FeedbackLayer
from antiparallel.torch.layout import WeightLayer, draw_like, geometry, weight_of


def initialize(model: nn.Module, *, scale: Scale | None = None, seed: int = 0) -> nn.Module:
    """Give every weight layer its lambda initialisation: W from N or U by lambda, zero biases.

    ``N(0, lambda^2)`` for convolutions, ``U(-lambda, lambda)`` for dense layers. Every weight
    layer is initialised, whatever its rule and whether converted or not, so that models under
    different rules start alike; other parameters are left alone. ``fa-sign`` feedback is made
    anew from the new weights.

    Args:
        model: The model; changed in place.
        scale: What lambda is. None: a converted layer's own, and the paper's for others.
        seed: The experiment's seed; layer number i draws with index i.

    Returns:
        The model.

    Raises:
        SpecError: An argument is not allowed, or the model has no weight layer.
        UnsupportedError: A layer is lazy or its weights are parametrized, so that they cannot be
            set to a value.

    References:
        Xiao et al. (2019), footnote 2.
    """
    layers = weight_layers(model)
    if not layers:
        raise SpecError(f"Expected a model with weight layers. Received: model={model}")
    scales = [_scale_of(found.module, scale) for found in layers]
    for found in layers:
        parametrized = parametrize.is_parametrized(found.module)
        if parametrized or not isinstance(found.module.weight, nn.Parameter):
            raise UnsupportedError(
                "Expected weights that are parameters; those of a parametrized layer follow from "
                f"others. Received: layer={found.name!r}"
            )
    done: set[Tensor] = set()  # weights tied to an earlier layer's keep that layer's draw
    with torch.no_grad():
        for found, lam in zip(layers, scales, strict=True):
            layer = found.module
            if layer.weight not in done:
                layer.weight.copy_(
                    draw_like(
                        layer,
                        layer.weight,
                        lam,
                        seed=seed,
                        index=found.index,
                        purpose=Purpose.WEIGHT,
                    )
                )
                done.add(layer.weight)
            if layer.bias is not None:
                layer.bias.zero_()
    for found in layers:
        module = found.module
        if isinstance(module, FeedbackLayer) and module.rule == FeedbackAlignment(start="sign"):
            module.feedback = kept_feedback(
                module,
                weight_of(module),
                module.rule,
                module.feedback_scale,
                module.stream,
                module.keep_feedback,
            )
    return model


def _scale_of(layer: WeightLayer, scale: Scale | None) -> float:
    if scale is None and isinstance(layer, FeedbackLayer):
        return layer.feedback_scale
    return feedback_scale(geometry(layer), "paper" if scale is None else scale)
