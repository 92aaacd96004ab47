"""The order in which an epoch shows its pictures."""

import numpy as np
from numpy.typing import NDArray

_PURPOSE = 16  # apart from the specification's purposes, which are below 16


def order(size: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch shows the training pictures.

    The order sorts one raw 64-bit Philox word per picture, so that it depends neither on what
    was drawn before nor on the NumPy release.
    """
    generator = np.random.Philox(
        key=np.array([seed, epoch], dtype=np.uint64),
        counter=np.array([0, 0, _PURPOSE, 0], dtype=np.uint64),
    )
    return np.argsort(generator.random_raw(size), kind="stable")
