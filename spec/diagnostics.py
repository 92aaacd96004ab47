"""What the paper's Figure 3 measures of a layer (SPEC.md, chapter M)."""

import numpy as np
from numpy.typing import NDArray

from antiparallel.spec.contract import Array, Diagnostics
from antiparallel.spec.errors import SpecError


def diagnose(weight: Array, feedback: Array) -> Diagnostics:
    """Return alignment angle, excess kurtosis and mean magnitude of a layer.

    Args:
        weight: W.
        feedback: B, in W's shape. For ``bp``, where B = W says nothing, pass sign(W) (clause M2).

    Raises:
        SpecError: The shapes differ (clause E12).
    """
    if weight.shape != feedback.shape:
        raise SpecError(
            f"Expected feedback of the weights' shape {weight.shape}. "
            f"Received: shape={feedback.shape}"
        )
    return Diagnostics(
        angle=alignment_angle(weight, feedback),
        kurtosis=excess_kurtosis(weight),
        magnitude=float(np.abs(weight.astype(np.float64)).mean()),
    )


def alignment_angle(weight: Array, feedback: Array) -> float:
    """Return the angle between flattened W and B in degrees, 0 to 180.

    Computed in float64 as ``2 atan2(|w - b|, |w + b|)`` of the unit vectors, which, unlike the
    arc cosine, is exact near 0 and 180 degrees. NaN if either is all zeros.

    References:
        Xiao et al. (2019), Figure 3; Kahan, "How futile are mindless assessments of roundoff".
    """
    w, b = _unit_vector(weight), _unit_vector(feedback)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(w - b), np.linalg.norm(w + b))))


def excess_kurtosis(weight: Array) -> float:
    """Return the population excess kurtosis ``m4 / m2^2 - 3``; NaN if all weights are equal."""
    w = weight.astype(np.float64).ravel()
    w = w - w.mean()
    if not w.any() or weight.min() == weight.max():
        return float("nan")
    w /= np.abs(w).max()  # so that fourth powers neither overflow nor vanish
    squares = w**2
    return float((squares**2).mean() / squares.mean() ** 2 - 3)


def _unit_vector(array: Array) -> NDArray[np.float64]:
    vector = array.astype(np.float64).ravel()
    largest = np.abs(vector).max()
    if largest == 0:
        return np.full_like(vector, np.nan)
    vector /= largest  # so that squares neither overflow nor vanish
    vector /= np.linalg.norm(vector)
    return vector
