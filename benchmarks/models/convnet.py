"""The digits tier's network, in words that hold in every framework."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvNet:
    """A plain chain of convolutions, deep for its data.

    ``depth`` times: a 3x3 convolution with ``width`` channels, stride 1, one zero on every side,
    no bias; batch normalisation; ReLU. Halved in height and width by 2x2 maximum pooling after
    the convolutions in ``pool_after``. Then the mean over height and width, and a dense layer.

    Batch normalisation keeps ``running = 0.9 * running + 0.1 * batch`` of the mean and of the
    unbiased variance, and adds 1e-5 to the variance. Layers are named ``conv1``, ``norm1``, ...,
    and ``fc``.

    Args:
        channels: Channels of the pictures.
        classes: Classes.
        depth: Number of convolutions.
        width: Channels of every convolution.
        pool_after: After which convolutions, counted from 1, pooling follows.
    """

    channels: int
    classes: int
    depth: int
    width: int
    pool_after: tuple[int, ...] = (3, 6)
