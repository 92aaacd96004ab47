"""Networks that no model library has, in words that hold in every framework."""

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


@dataclass(frozen=True)
class AlexNet:
    """The paper's AlexNet: torchvision's, with batch normalisation and without dropout.

    Convolutions ``conv1`` to ``conv5`` (64, 192, 384, 256, 256 channels; kernels 11, 5, 3, 3, 3;
    stride 4 in the first; zeros on every side 2, 2, 1, 1, 1) and dense layers ``fc1``, ``fc2``
    (4096 each) without biases, each followed by batch normalisation (``norm1`` to ``norm7``, as
    in ``ConvNet``) and ReLU; 3x3 maximum pooling with stride 2 after the convolutions 1, 2 and 5;
    the mean in each of 6x6 fields before the dense layers; a dense layer ``fc`` with a bias.

    Args:
        channels: Channels of the pictures, of at least 63 pixels in height and width.
        classes: Classes.

    References:
        Xiao et al. (2019), section 3.1; A. Krizhevsky (2014), One weird trick for parallelizing
        convolutional neural networks.
    """

    channels: int
    classes: int
    widths: tuple[int, ...] = (64, 192, 384, 256, 256)
    kernels: tuple[int, ...] = (11, 5, 3, 3, 3)
    strides: tuple[int, ...] = (4, 1, 1, 1, 1)
    pads: tuple[int, ...] = (2, 2, 1, 1, 1)
    pool_after: tuple[int, ...] = (1, 2, 5)
    fields: int = 6
    dense: tuple[int, ...] = (4096, 4096)
