"""The specification's initial weights, for a Keras model."""

import keras
import numpy as np

from antiparallel.keras.inventory import weight_layers
from antiparallel.keras.layers import FeedbackLayer
from antiparallel.keras.layout import Kernel, WeightLayer, draw_like, kernels
from antiparallel.spec import FeedbackAlignment, Scale, SpecError, UnsupportedError, feedback_scale
from antiparallel.spec.draws import Purpose


def initialize(
    model: keras.layers.Layer, *, scale: Scale | None = None, seed: int = 0
) -> keras.layers.Layer:
    """Give every weight layer its lambda initialisation: W from N or U by lambda, zero biases.

    ``N(0, lambda^2)`` for convolutions, ``U(-lambda, lambda)`` for dense layers. Every weight
    layer is initialised, whatever its rule and whether converted or not, so that models under
    different rules start alike; other variables are left alone. ``fa-sign`` feedback is made
    anew from the new weights.

    Args:
        model: The model, built; changed in place.
        scale: What lambda is. None: a converted layer's own, and the paper's for others.
        seed: The experiment's seed; layer number i draws with index i.

    Returns:
        The model.

    Raises:
        SpecError: An argument is not allowed, or the model has no weight layer.
        UnsupportedError: A layer is not built, or its kernel is not a variable of its own (LoRA,
            quantised weights), so that it cannot be set to a value.

    References:
        Xiao et al. (2019), footnote 2.
    """
    layers = weight_layers(model)
    if not layers:
        raise SpecError(f"Expected a model with weight layers. Received: model={model.name!r}")
    plan = [
        (found.module, kernel, found.index + number, _scale_of(found.module, kernel, scale))
        for found in layers
        for number, kernel in enumerate(kernels(found.module))
    ]
    for layer, kernel, _, _ in plan:
        if not isinstance(getattr(layer, kernel.name), keras.Variable):
            raise UnsupportedError(
                "Expected kernels that are variables; that of a layer with LoRA or quantised "
                f"weights follows from others. Received: layer={layer.name!r}"
            )
    for layer, kernel, index, lam in plan:
        variable = getattr(layer, kernel.name)
        variable.assign(
            draw_like(kernel, variable.dtype, lam, seed=seed, index=index, purpose=Purpose.WEIGHT)
        )
        if layer.bias is not None:
            layer.bias.assign(np.zeros(layer.bias.shape))
        if isinstance(layer, FeedbackLayer) and layer.rule == FeedbackAlignment(start="sign"):
            state = layer.feedback_state
            assert state is not None
            matrix = state.matrices[kernel.name]
            matrix.assign(state.initial(layer, kernel, matrix.shape, matrix.dtype))
    return model


def _scale_of(layer: WeightLayer, kernel: Kernel, scale: Scale | None) -> float:
    if scale is None and isinstance(layer, FeedbackLayer):
        return layer.feedback_scale[kernel.name]
    return feedback_scale(kernel.geometry, "paper" if scale is None else scale)
