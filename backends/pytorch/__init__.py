"""Sign-symmetry and feedback alignment for PyTorch.

import antiparallel.torch as ap

model = ap.convert(model, rule="ss", overrides={"fc": "bp"}, seed=0)
print(ap.summary(model))
"""

from antiparallel.torch import functional
from antiparallel.torch.convert import convert, revert
from antiparallel.torch.diagnostics import diagnostics
from antiparallel.torch.initialize import initialize
from antiparallel.torch.layers import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    FeedbackLayer,
    Linear,
)
from antiparallel.torch.optimizers import SGD
from antiparallel.torch.summary import summary
from antiparallel.torch.verify import FeedbackError, verify

__all__ = [
    "SGD",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "FeedbackError",
    "FeedbackLayer",
    "Linear",
    "convert",
    "diagnostics",
    "functional",
    "initialize",
    "revert",
    "summary",
    "verify",
]
