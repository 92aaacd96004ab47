"""The specification of training without weight transport, as an executable NumPy reference."""

from antiparallel.spec.contract import Diagnostics, Gradients, SGDConfig
from antiparallel.spec.diagnostics import diagnose
from antiparallel.spec.draws import Purpose, draw
from antiparallel.spec.errors import SpecError, UnsupportedError
from antiparallel.spec.feedback import Feedback
from antiparallel.spec.geometry import Conv, ConvTranspose, Dense, Geometry, fan_out
from antiparallel.spec.initialization import initial_bias, initial_weight
from antiparallel.spec.layers import backward, forward
from antiparallel.spec.rules import (
    ALIASES,
    RULES,
    Backprop,
    FeedbackAlignment,
    Rule,
    SignSymmetry,
    as_rule,
)
from antiparallel.spec.scale import Scale, feedback_scale
from antiparallel.spec.sgd import SGD
from antiparallel.spec.trainer import train

SPEC_VERSION = "1.0"
"""Version of SPEC.md: the first number changes when a conforming backend may cease to be one."""

__all__ = [
    "ALIASES",
    "RULES",
    "SGD",
    "SPEC_VERSION",
    "Backprop",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Diagnostics",
    "Feedback",
    "FeedbackAlignment",
    "Geometry",
    "Gradients",
    "Purpose",
    "Rule",
    "SGDConfig",
    "Scale",
    "SignSymmetry",
    "SpecError",
    "UnsupportedError",
    "as_rule",
    "backward",
    "diagnose",
    "draw",
    "fan_out",
    "feedback_scale",
    "forward",
    "initial_bias",
    "initial_weight",
    "train",
]
