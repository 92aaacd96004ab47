"""What the paper's Figure 3 measures of a layer (SPEC.md, chapter M)."""

import numpy as np
from numpy.typing import NDArray

from antiparallel.spec.contract import Array, Diagnostics
from antiparallel.spec.errors import SpecError


@np.errstate(invalid="ignore")  # NaN where the text says NaN (M1, M3)
def diagnose(weight: Array, feedback: Array) -> Diagnostics:
    """Return alignment angle, excess kurtosis and mean magnitude of a layer, from float64.

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
    w, largest = _scaled(weight)
    b, _ = _scaled(feedback)
    return Diagnostics(
        angle=_alignment_angle(w, b),
        kurtosis=_excess_kurtosis(w),
        magnitude=largest * float(np.abs(w).mean()),
    )


def _scaled(array: Array) -> tuple[NDArray[np.float64], float]:
    """Return a vector over its largest magnitude, so that no power of it leaves float64's range."""
    vector = array.astype(np.float64).ravel()
    largest = float(np.abs(vector).max())
    return (vector / largest, largest) if largest else (vector, 0.0)


def _alignment_angle(w: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the angle of two vectors in degrees; NaN, as 0 / 0, if either is all zeros.

    ``2 atan2(|u - v|, |u + v|)`` of the unit vectors is, unlike the arc cosine, exact near 0
    and 180 degrees (Kahan, "How futile are mindless assessments of roundoff", 2006).
    """
    u, v = w / np.linalg.norm(w), b / np.linalg.norm(b)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))))


def _excess_kurtosis(w: NDArray[np.float64]) -> float:
    """Return ``m4 / m2^2 - 3`` of the population; NaN, as 0 / 0, if all numbers are equal.

    Equal numbers are 1 or -1 once scaled, so their mean is exact and their moments are 0.
    """
    squares = (w - w.mean()) ** 2
    return float((squares**2).mean() / squares.mean() ** 2 - 3)
