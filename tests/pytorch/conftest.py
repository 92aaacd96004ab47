"""One small layer of every kind, and how its error must look by the NumPy reference."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import antiparallel.torch as ap
from antiparallel.spec import Conv, ConvTranspose, Dense, Geometry, fan_out
from antiparallel.spec.layers import backward
from antiparallel.torch.layout import to_canonical


@dataclass(frozen=True)
class Case:
    """A kind of layer: torch's class and arguments, its geometry, an input's shape."""

    plain: type[nn.Module]
    arguments: dict[str, Any]
    geometry: Geometry
    input_shape: tuple[int, ...]

    @property
    def with_rule(self) -> Any:
        return getattr(ap, self.plain.__name__)

    def layer(self, rule: str, **options: Any) -> Any:
        return self.with_rule(**self.arguments, rule=rule, **options)

    def input(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(self.input_shape, dtype=dtype)

    def expected_error(self, layer: Any, x: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
        """Return the error sent to x by the reference, and the bound on its rounding (N7)."""
        dtype = np.float64
        matrix = to_canonical(layer, layer.feedback_matrix()).numpy().astype(dtype)
        x_, error_ = x.detach().numpy().astype(dtype), error.detach().numpy().astype(dtype)
        exact = backward(self.geometry, x_, error_, matrix).input
        size = backward(self.geometry, x_, abs(error_), abs(matrix)).input
        bound = (fan_out(self.geometry) + 2) * torch.finfo(error.dtype).eps * size
        return torch.from_numpy(exact), torch.from_numpy(bound)


CASES = {
    "linear": Case(nn.Linear, {"in_features": 5, "out_features": 7}, Dense(5, 7), (4, 5)),
    "linear on a sequence": Case(
        nn.Linear, {"in_features": 5, "out_features": 7}, Dense(5, 7), (2, 3, 5)
    ),
    "conv1d": Case(
        nn.Conv1d,
        {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 1},
        Conv(4, 6, (3,), stride=2, padding=1),
        (2, 4, 8),
    ),
    "conv2d": Case(
        nn.Conv2d,
        {
            "in_channels": 4,
            "out_channels": 6,
            "kernel_size": (3, 2),
            "stride": (2, 1),
            "padding": (1, 0),
            "groups": 2,
        },
        Conv(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
        (2, 4, 8, 5),
    ),
    "conv2d, depthwise and dilated": Case(
        nn.Conv2d,
        {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "dilation": 2, "groups": 4},
        Conv(4, 4, (3, 3), dilation=2, groups=4),
        (2, 4, 7, 7),
    ),
    "conv2d, same padding, even kernel": Case(
        nn.Conv2d,
        {"in_channels": 3, "out_channels": 4, "kernel_size": (2, 4), "padding": "same"},
        Conv(3, 4, (2, 4), padding="same"),
        (2, 3, 5, 6),
    ),
    "conv2d, valid padding": Case(
        nn.Conv2d,
        {"in_channels": 3, "out_channels": 4, "kernel_size": 2, "padding": "valid"},
        Conv(3, 4, (2, 2), padding="valid"),
        (2, 3, 5, 6),
    ),
    "conv3d": Case(
        nn.Conv3d,
        {"in_channels": 2, "out_channels": 4, "kernel_size": 2, "stride": 2, "bias": False},
        Conv(2, 4, (2, 2, 2), stride=2),
        (2, 2, 5, 4, 4),
    ),
    "conv_transpose1d": Case(
        nn.ConvTranspose1d,
        {
            "in_channels": 4,
            "out_channels": 6,
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "output_padding": 1,
            "groups": 2,
        },
        ConvTranspose(4, 6, (3,), stride=2, padding=1, output_padding=1, groups=2),
        (2, 4, 5),
    ),
    "conv_transpose2d": Case(
        nn.ConvTranspose2d,
        {"in_channels": 3, "out_channels": 4, "kernel_size": (3, 2), "stride": 2},
        ConvTranspose(3, 4, (3, 2), stride=2),
        (2, 3, 4, 3),
    ),
    "conv_transpose2d, output padding of a whole stride": Case(
        nn.ConvTranspose2d,
        {
            "in_channels": 3,
            "out_channels": 4,
            "kernel_size": 2,
            "dilation": 2,
            "output_padding": 1,
        },
        ConvTranspose(3, 4, (2, 2), dilation=2, output_padding=1),
        (2, 3, 4, 3),
    ),
    "conv_transpose3d": Case(
        nn.ConvTranspose3d,
        {"in_channels": 2, "out_channels": 3, "kernel_size": 2, "padding": 1},
        ConvTranspose(2, 3, (2, 2, 2), padding=1),
        (2, 2, 3, 3, 3),
    ),
}

RULES_WITH_FEEDBACK = ("ss", "ss-fixed", "ss-batch", "fa", "fa-sign")


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture(params=RULES_WITH_FEEDBACK)
def rule(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def _seeded_and_single_threaded() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_network() -> nn.Sequential:
    """A network with an in-place activation, normalisation, and two kinds of weight layer."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 5),
    )


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)
