"""Chapter M: alignment angle, kurtosis, magnitude."""

from collections.abc import Callable
from math import acos, degrees, fsum, isnan, nan, sqrt
from typing import Any

import numpy as np
import pytest

from antiparallel.spec import diagnose

EPS = float(np.finfo(np.float64).eps)


@pytest.mark.clause("M1", "M3", "M4")
def test_the_worked_examples_come_out_as_printed(example: Callable[[str], Any]) -> None:
    for row in example("diagnostics"):
        found = diagnose(np.array(row["W"], float), np.array(row["B"], float))
        for name in ("angle", "kurtosis", "magnitude"):
            printed = nan if row[name] is None else row[name]
            # At most five terms, and angles of 0 and 180 degrees are exact.
            assert getattr(found, name) == pytest.approx(printed, rel=20 * EPS, abs=0, nan_ok=True)


@pytest.mark.clause("M1", "M3", "M4")
def test_measurements_are_the_formulas_in_plain_loops() -> None:
    generator = np.random.default_rng(0)
    w, b = generator.normal(size=(2, 6, 5, 3))
    found = diagnose(w, b)
    rounding = 10 * w.size * EPS  # a handful of operations and sums over all elements
    flat, other = w.ravel().tolist(), b.ravel().tolist()
    product = fsum(p * q for p, q in zip(flat, other, strict=True))
    norms = sqrt(fsum(p * p for p in flat)) * sqrt(fsum(q * q for q in other))
    assert found.angle == pytest.approx(degrees(acos(product / norms)), rel=rounding)
    mean = fsum(flat) / len(flat)
    m2, m4 = (fsum((p - mean) ** k for p in flat) / len(flat) for k in (2, 4))
    assert found.kurtosis == pytest.approx(m4 / m2**2 - 3, rel=0, abs=3 * rounding)
    assert found.magnitude == pytest.approx(fsum(map(abs, flat)) / len(flat), rel=rounding)


@pytest.mark.clause("M1", "M5")
def test_small_angles_are_measured_exactly() -> None:
    found = diagnose(np.array([1.0, 0.0]), np.array([1.0, 1e-9]))
    assert found.angle == pytest.approx(degrees(1e-9), rel=20 * EPS / 1e-9)


@pytest.mark.parametrize("size", [1e-300, 1e-320, 1e300])
@pytest.mark.clause("M5")
def test_weights_of_any_magnitude_are_measured(size: float) -> None:
    w = np.array([3.0, -4.0, 5.0, 1.0])
    plain, found = diagnose(w, w[::-1]), diagnose(w * size, w[::-1] * size)
    # A subnormal number keeps fewer digits; the fourth power loses four times as much.
    tiny = float(np.finfo(np.float64).smallest_subnormal)
    rel = 40 * max(EPS, tiny / size)
    assert found.angle == pytest.approx(plain.angle, rel=rel)
    assert found.kurtosis == pytest.approx(plain.kurtosis, rel=rel)
    assert found.magnitude == pytest.approx(plain.magnitude * size, rel=rel)


@pytest.mark.clause("M5")
def test_float32_weights_are_measured_in_float64() -> None:
    w = np.array([1e30, 2e30, -5e30], np.float32)
    assert diagnose(w, w) == diagnose(w.astype(np.float64), w.astype(np.float64))


@pytest.mark.clause("M1", "M3")
def test_all_zeros_have_no_angle_and_equal_weights_no_kurtosis() -> None:
    zeros, some = np.zeros(3), np.array([1.0, 2.0, 3.0])
    assert isnan(diagnose(zeros, some).angle)
    assert isnan(diagnose(some, zeros).angle)
    # The mean of three times 0.1 is not 0.1 in float64.
    assert isnan(diagnose(np.full(3, 0.1), some).kurtosis)
