"""The specification of training without weight transport, as an executable NumPy reference."""

from antiparallel.spec.errors import SpecError, UnsupportedError
from antiparallel.spec.geometry import Conv, ConvTranspose, Dense, Geometry, fan_out
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

SPEC_VERSION = "1.0"
"""Version of SPEC.md: the first number changes when a conforming backend may cease to be one."""

__all__ = [
    "ALIASES",
    "RULES",
    "SPEC_VERSION",
    "Backprop",
    "Conv",
    "ConvTranspose",
    "Dense",
    "FeedbackAlignment",
    "Geometry",
    "Rule",
    "Scale",
    "SignSymmetry",
    "SpecError",
    "UnsupportedError",
    "as_rule",
    "fan_out",
    "feedback_scale",
]
