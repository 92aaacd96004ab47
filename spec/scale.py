"""lambda: the size of a layer's feedback."""

from math import isfinite, sqrt
from typing import Literal, TypeAlias

from antiparallel.spec.errors import SpecError
from antiparallel.spec.geometry import Dense, Geometry, fan_out

Scale: TypeAlias = Literal["paper", "reference-code"] | float


def feedback_scale(geometry: Geometry, scale: Scale = "paper") -> float:
    """Return a layer's lambda.

    ``sqrt(2 / (prod(kernel) * n_out / groups))`` for convolutions, transposed ones included;
    ``1 / sqrt(n_out)`` for dense layers.

    Args:
        geometry: The layer.
        scale: ``"paper"``: as above. ``"reference-code"``: dense layers use
            ``1 / sqrt(n_in)``, as the paper's published code does. A number > 0: that number.

    Returns:
        lambda, a positive float64.

    Raises:
        SpecError: The scale is none of these.

    References:
        Xiao et al. (2019), footnote 2. Groups and transposed convolutions are ours: the
        paper has neither.
    """
    if isinstance(scale, int | float) and not isinstance(scale, bool):
        if isfinite(scale) and scale > 0:
            return float(scale)
    elif scale == "paper":
        return 1 / sqrt(geometry.n_out) if isinstance(geometry, Dense) else _conv(geometry)
    elif scale == "reference-code":
        return 1 / sqrt(geometry.n_in) if isinstance(geometry, Dense) else _conv(geometry)
    raise SpecError(
        "Expected scale to be 'paper', 'reference-code' or a finite number > 0. "
        f"Received: scale={scale!r}"
    )


def _conv(geometry: Geometry) -> float:
    return sqrt(2 / fan_out(geometry))
