"""The paper's Figure 3 for a Keras model: how well W and B align, layer by layer."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from antiparallel.keras.inventory import weight_layers
from antiparallel.keras.layers import FeedbackLayer
from antiparallel.keras.layout import kernels
from antiparallel.spec import Backprop, SpecError
from antiparallel.spec.contract import Diagnostics
from antiparallel.spec.diagnostics import diagnose


def diagnostics(model: keras.layers.Layer) -> dict[str, Diagnostics]:
    """Return angle, kurtosis and magnitude of every weight layer, by name.

    For a layer that learns by backprop, under rule ``bp`` or unconverted, the angle is the one
    between W and sign(W), as in the paper. A separable convolution has a row for each kernel.

    Args:
        model: The model, built; stays as it is.

    Returns:
        For each layer: the angle between W and B in degrees, the excess kurtosis of W, and the
        mean absolute value of W, computed in float64.

    Raises:
        SpecError: The model has no weight layer.
        UnsupportedError: A layer is not built.

    References:
        Xiao et al. (2019), Figure 3.
    """
    layers = weight_layers(model)
    if not layers:
        raise SpecError(f"Expected a model with weight layers. Received: {type(model).__name__}")
    results = {}
    for found in layers:
        layer = found.module
        for kernel in kernels(layer):
            weight = _float64(getattr(layer, kernel.name))
            feedback = np.sign(weight)
            if isinstance(layer, FeedbackLayer) and not found.obstacle and layer.rule != Backprop():
                feedback = _float64(layer.feedback_matrix(kernel.name))
            name = found.name if kernel.name == "kernel" else f"{found.name}/{kernel.name}"
            results[name] = diagnose(weight, feedback)
    return results


class DiagnosticsCallback(keras.callbacks.Callback):
    """Record the diagnostics at the end of every epoch of ``fit``.

    Attributes:
        history: One dict of diagnostics, by layer, for each epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: list[dict[str, Diagnostics]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record one epoch."""
        self.history.append(diagnostics(self.model))


def _float64(value: Any) -> NDArray[np.float64]:
    return ops.convert_to_numpy(ops.cast(value, "float32") if _narrow(value) else value).astype(
        np.float64
    )


def _narrow(value: Any) -> bool:
    return "16" in str(value.dtype)
