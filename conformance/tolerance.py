"""How far a correct result may lie from the exact one: from dtype and arithmetic alone (N7).

A sum of n products computed in any order in floating point with unit roundoff u differs from the
exact one by at most ``n u / (1 - n u) * sum |a| |b|`` (Higham, *Accuracy and Stability of Numerical
Algorithms*, 2nd ed., section 3.1). The suite compares with the reference run in float64, which
has the same bound; ``eps = 2 u`` covers both. Algorithms that are not sums of products, such as
Winograd's convolution, are not bounded by this: a backend turns them off to be certified.
"""

import numpy as np

from antiparallel.conformance.arrays import Dtype
from antiparallel.spec.contract import Array


def of_sum(dtype: Dtype, length: int, magnitude: Array) -> Array:
    """Return the bound on the error of sums of products, element by element.

    Args:
        dtype: In which the sums are computed.
        length: Number of products in a sum, m.
        magnitude: ``sum |a| |b|``, in float64.

    Returns:
        ``(m + 2) * (eps * magnitude + t)``, clause N7's bound; t, the smallest normal number, is
        what a product or a sum loses where hardware rounds what is smaller to zero.
    """
    limits = np.finfo(dtype)
    return (length + 2) * (float(limits.eps) * magnitude + float(limits.smallest_normal))


def of_sgd(dtype: Dtype, steps: int, magnitude: Array) -> Array:
    """Return the bound on the error of a parameter after some updates.

    Args:
        dtype: In which the updates are computed.
        steps: Number of updates, t.
        magnitude: The update rule run on absolute values, in float64: what the parameter would be
            if nothing had cancelled.

    Returns:
        The bound of a sum of 12 t terms: a step rounds a term at most 12 times, the settings'
        own rounding to the dtype included.
    """
    return of_sum(dtype, 12 * steps, magnitude)
