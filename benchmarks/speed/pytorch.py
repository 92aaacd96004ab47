"""What takes the steps that are measured, on PyTorch."""

from importlib.metadata import version

import torch
from torch import Tensor, nn

from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.pytorch_networks import (
    build_network,
    mean_loss,
    random_pictures,
)
from antiparallel.benchmarks.stepper import process_memory
from antiparallel.benchmarks.steppers.pytorch import find_device
from antiparallel.benchmarks.tasks.pytorch import Outputs, Targets, in_float32

__all__ = ["TorchContender", "build"]

# A step takes as long at any rate; at this one no rule's losses overflow.
_LR = 1e-3


class TorchContender:
    """A torch model, torch's own SGD and one batch; see ``Contender``.

    Args:
        case: What is measured.
        model: The network under its rule, on its device.
        images: Pictures, ``(batch, 3, pixels, pixels)``.
        targets: What they show.

    Attributes:
        loss: The mean loss that was computed last, in nats.
    """

    loss: Tensor

    def __init__(self, case: Case, model: nn.Module, images: Tensor, targets: Targets) -> None:
        self._case = case
        self._model = model
        self._network = torch.compile(model) if case.compiled else model
        self._device = images.device
        self._images, self._targets = images, targets
        self._optimizer = torch.optim.SGD(
            model.parameters(), lr=_LR, momentum=0.9, weight_decay=1e-4
        )

    def forward(self) -> None:
        """Compute the loss; see ``Contender``."""
        self._compute()
        self._finish()

    def gradients(self) -> None:
        """Compute the loss and all gradients; see ``Contender``."""
        self._backpropagate()
        self._finish()

    def step(self) -> None:
        """Make one update; see ``Contender``."""
        self._backpropagate()
        self._optimizer.step()
        self._finish()

    def describe(self) -> dict[str, str]:
        """Return versions, device and threads; see ``Contender``."""
        on_gpu = self._device.type == "cuda"
        return {
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "device": torch.cuda.get_device_name(self._device) if on_gpu else str(self._device),
            "threads": str(torch.get_num_threads()),
        }

    def memory(self) -> int:
        """Return the most memory used so far; see ``Contender``."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return process_memory()

    def _backpropagate(self) -> None:
        self._optimizer.zero_grad()
        torch.autograd.backward(self._compute())

    def _compute(self) -> Tensor:
        mixed = self._case.precision != "float32"
        with torch.autocast(self._device.type, getattr(torch, self._case.precision), enabled=mixed):
            outputs: Outputs = self._network(self._images)
        outputs = in_float32(outputs) if mixed else outputs
        loss = mean_loss(self._model, self._case.pixels, outputs, self._targets)
        self.loss = loss.detach()
        return loss

    def _finish(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def build(case: Case, rule: str) -> TorchContender:
    """Build a network, ready to take its first step; see ``Builder``."""
    torch.set_num_threads(case.threads)
    device = find_device(case.device)
    model = build_network(case, rule).to(device)
    images, targets = random_pictures(case)
    images = images.to(device)
    if case.channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    return TorchContender(case, model, images, Targets(*(part.to(device) for part in targets)))
