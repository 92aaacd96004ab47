"""What takes the steps that are measured, on PyTorch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from antiparallel.benchmarks.data import WHOLE, Part
from antiparallel.benchmarks.processes import find_place
from antiparallel.benchmarks.speed.case import PROCESSES, Case
from antiparallel.benchmarks.speed.pictures import Pictures, random_pictures
from antiparallel.benchmarks.speed.pytorch_messages import Messages
from antiparallel.benchmarks.speed.pytorch_networks import (
    build_network,
    compute_activations_again,
    mean_loss,
)
from antiparallel.benchmarks.stepper import process_memory
from antiparallel.benchmarks.steppers.pytorch import find_device
from antiparallel.benchmarks.steppers.pytorch_processes import TorchProcesses, met, unwrapped
from antiparallel.benchmarks.tasks.pytorch import Outputs, Targets, in_float32
from antiparallel.spec import SpecError

# A step takes as long at any rate; at this one no rule's losses overflow.
_LR = 1e-3

Shown = tuple[Tensor, Targets]


class TorchContender:
    """A torch model, torch's own SGD and one batch; see ``Contender``.

    Args:
        case: What is measured.
        model: The network under its rule, on its device; what averages gradients may wrap it.
        parts: The batch in the parts whose gradients are added up: pictures
            ``(batch, 3, pixels, pixels)`` and what they show.

    Attributes:
        loss: The mean loss that was computed last, in nats.
    """

    loss: Tensor

    def __init__(self, case: Case, model: nn.Module, parts: list[Shown]) -> None:
        self._case = case
        self._model = unwrapped(model)
        self._network = torch.compile(model) if case.compiled else model
        self._shards = [module for module in model.modules() if isinstance(module, FSDPModule)]
        self._parts = parts
        self._device = parts[0][0].device
        self._optimizer = torch.optim.SGD(
            model.parameters(), lr=_LR, momentum=0.9, weight_decay=1e-4
        )

    def forward(self) -> None:
        """Compute the loss; see ``Contender``."""
        self._note([self._compute(part) for part in self._parts])
        for module in self._shards:
            module.reshard()  # as a backward pass does
        self._finish()

    def gradients(self) -> None:
        """Compute the loss and all gradients; see ``Contender``."""
        self._backpropagate()
        self._finish()

    def step(self) -> None:
        """Make one update; see ``Contender``."""
        self._backpropagate()
        self.update()

    def update(self) -> None:
        """Update the weights by the gradients of the last backward pass; see ``Contender``."""
        self._optimizer.step()
        self._finish()

    def describe(self) -> dict[str, str]:
        """Return versions, device and threads; see ``Contender``."""
        on_gpu = self._device.type == "cuda"
        return {
            "torch": torch.__version__,
            **({"torchvision": version("torchvision")} if find_spec("torchvision") else {}),
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
        losses = []
        for part in self._parts:
            loss = self._compute(part)
            torch.autograd.backward(loss)
            losses.append(loss)
        self._note(losses)

    def _compute(self, part: Shown) -> Tensor:
        """Return what a part adds to the mean loss."""
        images, targets = part
        mixed = self._case.precision != "float32"
        with torch.autocast(self._device.type, getattr(torch, self._case.precision), enabled=mixed):
            outputs: Outputs = self._network(images)
        outputs = in_float32(outputs) if mixed else outputs
        loss = mean_loss(self._model, self._case.pixels, outputs, targets)
        return loss / len(self._parts) if len(self._parts) > 1 else loss

    def _note(self, losses: list[Tensor]) -> None:
        self.loss = torch.stack([loss.detach() for loss in losses]).sum()

    def _finish(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


@contextmanager
def joined(case: Case) -> Iterator[None]:
    """Meet the other processes of a case, if it has any; see ``Builder``.

    Raises:
        SpecError: A launcher started another number of processes.
    """
    if case.way not in PROCESSES:
        yield
        return
    place = find_place(os.environ)
    if place.part.world != case.parts:
        raise SpecError(
            "Expected several processes, one for each part. "
            f"Received: parts={case.parts} for {place.part.world}"
        )
    with met(place, case.device, case.way == "fsdp2"):
        yield


def build(case: Case, rule: str) -> TorchContender:
    """Build a network, ready to take its first step; see ``Builder``.

    Raises:
        SpecError: There is no such rule or device, or something is not installed.
    """
    torch.set_num_threads(case.threads)
    if case.compiled:
        # Else what comes after some compilations is run without, and looks slow.
        torch._dynamo.config.fail_on_recompile_limit_hit = True
    device = find_device(case.device)
    layout = torch.channels_last if case.channels_last else torch.contiguous_format
    model = build_network(case, rule)
    if case.way == "checkpointed":
        compute_activations_again(model)
    model = _spread(model.to(device).to(memory_format=layout), case, device)
    pictures = random_pictures(case)
    parts = [_shown(pictures.of(part), device, layout) for part in _parts_here(case)]
    return TorchContender(case, model, parts)


def collectives(case: Case, rule: str) -> dict[str, int]:
    """Return how many collective operations one step takes, and their ``"bytes"``; see ``Builder``.

    A tensor that is sent into another one counts twice.
    """
    contender = build(case, rule)
    for _ in range(2):
        contender.step()  # in which DistributedDataParallel arranges its messages
    messages = Messages()
    with messages:
        contender.step()
    return messages.counted()


def _parts_here(case: Case) -> list[Part]:
    """Return the parts of the batch that this process works on, one after the other."""
    if case.way in PROCESSES:
        return [find_place(os.environ).part]
    if case.way == "accumulated":
        return [Part(number, case.parts) for number in range(case.parts)]
    return [WHOLE]


def _spread(model: nn.Module, case: Case, device: torch.device) -> nn.Module:
    """Let a network average its gradients over the processes, as PyTorch does if left alone."""
    if case.way == "ddp":
        index = [device] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=index)
    if case.way == "fsdp2":
        return TorchProcesses(find_place(os.environ), device, sharded=True).spread(model)
    return model


def _shown(pictures: Pictures, device: torch.device, layout: torch.memory_format) -> Shown:
    images, labels, boxes = (torch.from_numpy(array).to(device) for array in pictures)
    return images.permute(0, 3, 1, 2).contiguous(memory_format=layout), Targets(labels, boxes)
