"""The specification's initial weights (SPEC.md, chapter I)."""

from typing import Any

import numpy as np

from antiparallel.spec.contract import Array
from antiparallel.spec.draws import Purpose, draw
from antiparallel.spec.geometry import Geometry
from antiparallel.spec.scale import Scale, feedback_scale


def initial_weight(
    geometry: Geometry,
    dtype: np.dtype[Any],
    *,
    scale: Scale = "paper",
    seed: int = 0,
    index: int = 0,
) -> Array:
    """Return a layer's initial weights: ``N(0, lambda^2)``, dense ``U(-lambda, lambda)``.

    Args:
        geometry: The layer.
        dtype: The weights' dtype.
        scale: What lambda is.
        seed: The experiment's seed.
        index: The layer's place among the model's weight layers.

    Returns:
        W_0, in the canonical layout.

    Raises:
        SpecError: scale, seed or index is not allowed (clauses E5, E6).

    References:
        Xiao et al. (2019), footnote 2.
    """
    lam = feedback_scale(geometry, scale)
    return draw(geometry, lam, seed=seed, index=index, purpose=Purpose.WEIGHT, dtype=dtype)


def initial_bias(geometry: Geometry, dtype: np.dtype[Any]) -> Array:
    """Return a layer's initial bias: zeros, ``(n_out,)``."""
    return np.zeros(geometry.n_out, dtype)
