"""Chapter M: the diagnostics of the paper's Figure 3."""

from math import degrees, isnan, sin, sqrt

import numpy as np
from hypothesis import strategies as st

from antiparallel.conformance import strategies as draws
from antiparallel.conformance.cases import ArraysCase
from antiparallel.conformance.expectations import expect
from antiparallel.conformance.registry import check
from antiparallel.spec.contract import Array, Backend, Diagnostics
from antiparallel.spec.diagnostics import diagnose

_EPS = float(np.finfo(np.float64).eps)  # the diagnostics are computed in float64 for any dtype
_WEIGHTS = st.sampled_from(["normal", "zeros", "ties", "huge"])


def _diagnose(
    backend: Backend, case: ArraysCase, feedback: Array
) -> tuple[Diagnostics, Diagnostics, str]:
    """Return what the backend and the reference say, and the call."""
    call = f"diagnostics(weight, feedback) in {case.dtype} of shape {case.geometry.weight_shape}"
    found = backend.diagnostics(case.weight(), feedback)
    return found, diagnose(case.weight(), feedback), call


def _require(
    observed: float, expected: float, tolerance: float, what: str, why: str, call: str
) -> None:
    kind = isinstance(observed, float)
    expect(kind, f"{what} of type {type(observed).__name__}", "a float", call)
    if isnan(expected):
        expect(isnan(observed), f"{what} = {observed!r}", f"NaN, {why}", call)
    else:
        near = abs(observed - expected) <= tolerance
        wanted = f"{expected!r} +- {tolerance:.2g}, {why}"
        expect(near, f"{what} = {observed!r}", wanted, call)


def _angle_tolerance(angle: float, size: int) -> float:
    """Return how far an angle may be off by whose cosine is off by ``size * eps``."""
    cosine = (size + 8) * _EPS
    near_pole = sqrt(2 * cosine)
    sine = sin(np.radians(angle))
    return degrees(min(near_pole, cosine / sine) if sine > 0 else near_pole) + 8 * _EPS * 180


def _kurtosis_tolerance(weight: Array, kurtosis: float) -> float:
    """Return the rounding of three sums, and what subtracting the mean loses of what is left."""
    w = weight.astype(np.float64)
    if isnan(kurtosis):
        return 0.0
    w /= abs(w).max()
    return (w.size + 20) * _EPS * (kurtosis + 3) * (1 + 8 / float(w.std()))


@check("M1", case=draws.arrays_cases(weights=_WEIGHTS))
def check_alignment_angle(backend: Backend, case: ArraysCase) -> None:
    """The angle between flattened W and B, in degrees; NaN if either is zero."""
    for feedback in (case.weight(1), case.weight(), -case.weight()):
        found, expected, call = _diagnose(backend, case, feedback)
        tolerance = _angle_tolerance(expected.angle, feedback.size)
        why = "the angle between W and B in degrees"
        _require(found.angle, expected.angle, tolerance, "angle", why, call)


@check("M3", case=draws.arrays_cases(weights=_WEIGHTS))
def check_excess_kurtosis(backend: Backend, case: ArraysCase) -> None:
    """The excess kurtosis of W, ``m4 / m2^2 - 3`` of the population; NaN if W is constant."""
    found, expected, call = _diagnose(backend, case, case.weight(1))
    tolerance = _kurtosis_tolerance(case.weight(), expected.kurtosis)
    why = "m4 / m2^2 - 3"
    _require(found.kurtosis, expected.kurtosis, tolerance, "kurtosis", why, call)


@check("M4", case=draws.arrays_cases(weights=_WEIGHTS))
def check_mean_magnitude(backend: Backend, case: ArraysCase) -> None:
    """The mean absolute weight."""
    found, expected, call = _diagnose(backend, case, case.weight(1))
    tolerance = (case.weight().size + 1) * _EPS * expected.magnitude
    why = "the mean absolute weight"
    _require(found.magnitude, expected.magnitude, tolerance, "magnitude", why, call)


@check("M5", power=(-1000, -140, -120, 100, 120, 1000), case=draws.arrays_cases(weights="normal"))
def check_diagnostics_of_any_magnitude(backend: Backend, power: int, case: ArraysCase) -> None:
    """Angle and kurtosis do not depend on the weights' magnitude; nothing over- or underflows."""
    limits = np.finfo(case.dtype)
    lowest, highest = limits.minexp + 20, limits.maxexp - 10
    factor = case.weight().dtype.type(2.0 ** min(max(power, lowest), highest))
    weight, feedback = case.weight() * factor, case.weight(1) * factor
    found, expected = backend.diagnostics(weight, feedback), diagnose(weight, feedback)
    call = f"diagnostics(weight, feedback) in {case.dtype} of numbers of about {factor:.1g}"
    tolerance = _angle_tolerance(expected.angle, weight.size)
    _require(found.angle, expected.angle, tolerance, "angle", "as at magnitude 1", call)
    tolerance = _kurtosis_tolerance(weight, expected.kurtosis)
    _require(found.kurtosis, expected.kurtosis, tolerance, "kurtosis", "as at magnitude 1", call)
    tolerance = (weight.size + 1) * _EPS * expected.magnitude
    why = "the mean absolute weight"
    _require(found.magnitude, expected.magnitude, tolerance, "magnitude", why, call)
