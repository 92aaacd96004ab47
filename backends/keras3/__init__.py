"""Sign-symmetry and feedback alignment for Keras 3 on TensorFlow, JAX and torch.

import antiparallel.keras as ap

model = ap.convert(model, rule="ss", overrides={"fc": "bp"}, seed=0)
print(ap.summary(model))
"""

from antiparallel.keras.engines import engine  # first, to say which engine is missing

# isort: split
from antiparallel.keras import functional
from antiparallel.keras.convert import convert, revert
from antiparallel.keras.diagnostics import DiagnosticsCallback, diagnostics
from antiparallel.keras.initialize import initialize
from antiparallel.keras.layers import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Dense,
    DepthwiseConv1D,
    DepthwiseConv2D,
    EinsumDense,
    FeedbackLayer,
    SeparableConv1D,
    SeparableConv2D,
)
from antiparallel.keras.optimizers import SGD
from antiparallel.keras.summary import summary
from antiparallel.keras.verify import verify

ENGINE: str = engine.NAME
"""The engine that Keras runs on: ``"tensorflow"``, ``"jax"`` or ``"torch"``."""

__all__ = [
    "ENGINE",
    "SGD",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "DiagnosticsCallback",
    "EinsumDense",
    "FeedbackLayer",
    "SeparableConv1D",
    "SeparableConv2D",
    "convert",
    "diagnostics",
    "functional",
    "initialize",
    "revert",
    "summary",
    "verify",
]
