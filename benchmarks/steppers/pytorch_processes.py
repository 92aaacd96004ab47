"""Several processes on PyTorch: gradients by DistributedDataParallel or FSDP2, and the rest."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from antiparallel.benchmarks.processes import Place, Processes, Stop
from antiparallel.benchmarks.recipes import Recipe
from antiparallel.spec import SpecError

_PATIENCE = timedelta(hours=2)  # while another process looks at every picture on a slow disk

# Torch is about to rename it.
_NEW, _OLD = "forward_sync_buffers", "broadcast_buffers"
_NO_BROADCAST: dict[str, Any] = {
    _NEW if _NEW in signature(DistributedDataParallel).parameters else _OLD: False
}


class TorchProcesses(Processes):
    """Processes of ``torch.distributed``; see ``Processes``.

    Args:
        place: Which one this is.
        device: Where it computes.
        sharded: Whether parameters, gradients and momentum are spread over the processes.
    """

    def __init__(self, place: Place, device: torch.device, sharded: bool) -> None:
        super().__init__(place.part)
        self.device = device
        self.sharded = sharded
        self._asked: Stop = lambda: False
        self._stopping = False

    def gather(self, message: bytes) -> list[bytes]:
        """Return every process's message, in their order."""
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.part.world)]
        dist.all_gather(sizes, torch.tensor([len(message)]))
        return [self._sent(rank, int(size), message) for rank, size in enumerate(sizes)]

    def agreed(self, stop: Stop) -> Stop:
        """Return the question whether to stop, as answered with the last update's numbers."""
        self._asked, self._stopping = stop, False
        return lambda: self._stopping

    def combine(self, sums: Sequence[float], means: Sequence[Tensor]) -> list[float]:
        """Return sums over the processes, replace tensors by their means, and hear of stops.

        One message for all of it.

        Args:
            sums: Numbers to be added up, in float64.
            means: Tensors to be averaged in place; computed in float64.
        """
        numbers = torch.tensor([float(self._asked()), *sums], dtype=torch.float64)
        packed = torch.cat(
            [numbers.to(self.device), *(tensor.double().flatten() for tensor in means)]
        )
        dist.all_reduce(packed)
        stopping, *summed = packed[: len(numbers)].tolist()
        self._stopping = stopping > 0
        averages = torch.split(
            packed[len(numbers) :] / self.part.world, [tensor.numel() for tensor in means]
        )
        for tensor, average in zip(means, averages, strict=True):
            tensor.copy_(average.view_as(tensor))
        return summed

    def spread(self, model: nn.Module) -> nn.Module:
        """Return the model whose backward pass averages gradients over the processes.

        Feedback is drawn by every process for itself and stays whole: none of it travels.
        Running statistics are averaged after an update, so no process's are broadcast before it.
        """
        if not self.sharded:
            index = [self.device] if self.device.type == "cuda" else None
            return DistributedDataParallel(model, device_ids=index, **_NO_BROADCAST)
        model.to(memory_format=torch.contiguous_format)  # which is all that fully_shard knows
        mesh = init_device_mesh(self.device.type, (self.part.world,))
        for block in model.children():
            if any(True for _ in block.children()):
                fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model

    def describe(self) -> dict[str, str]:
        """Return how many there are and how they share the work, for the record."""
        way = "fully_shard" if self.sharded else "DistributedDataParallel"
        return {"processes": f"{self.part.world} ({way})"}

    def _sent(self, rank: int, size: int, message: bytes) -> bytes:
        if not size:
            return b""
        ours = rank == self.part.rank
        buffer = (
            torch.frombuffer(bytearray(message), dtype=torch.uint8)
            if ours
            else torch.empty(size, dtype=torch.uint8)
        )
        dist.broadcast(buffer, rank)
        return message if ours else buffer.numpy().tobytes()


def joined(
    place: Place, recipe: Recipe, devices: int, sharded: bool
) -> AbstractContextManager[Processes]:
    """Meet the other processes of a run, one for each device, and part from them at the end.

    Raises:
        SpecError: The recipe's device names one of several devices, or one that is not there.
    """
    if place.part.world == 1:
        raise SpecError(f"Expected a process for each device. Received: one for {devices}")
    return met(place, recipe.device, sharded)


@contextmanager
def met(place: Place, device: str, sharded: bool) -> Iterator[Processes]:
    """Meet the other processes, and part from them at the end.

    Args:
        place: Which one this is.
        device: ``"cuda"``, of which each process takes its own, or ``"cpu"``.
        sharded: See ``TorchProcesses``.

    Raises:
        SpecError: There is no such device.
    """
    ours = _device(device, place)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if ours.type == "cuda" else "gloo",
        init_method=f"tcp://{place.address}:{place.port}",
        timeout=_PATIENCE,
        rank=place.part.rank,
        world_size=place.part.world,
    )
    processes = TorchProcesses(place, ours, sharded)
    with warnings.catch_warnings():
        # Where a dimension is 1, its stride means nothing, and yet DistributedDataParallel warns.
        warnings.filterwarnings("ignore", message="Grad strides do not match")
        # It warns of changes in place of a network's output, which nobody here makes.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
        yield processes  # an error ends this process, and the launcher the others
    processes.gather(b"")  # nobody leaves while another one still speaks
    dist.destroy_process_group()


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside what averages its gradients."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be spread over the processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor that every process has all of, spread as another one is."""
    if not isinstance(like, DTensor):
        return tensor
    on_device = tensor.to(like.device)
    return distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Have all of a model's parameters in every process while the block runs."""
    shards = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in shards:
        module.unshard()
    yield
    for module in shards:
        module.reshard()


def _device(name: str, place: Place) -> torch.device:
    if name == "cpu":
        return torch.device("cpu")
    if name != "cuda":
        raise SpecError(
            f"Expected device=cuda, of which each process takes its own, or cpu. "
            f"Received: device={name!r} for {place.part.world} processes"
        )
    found = torch.cuda.device_count()
    if not found:
        raise SpecError("Expected a CUDA device. Received: device='cuda' where there is none")
    device = torch.device("cuda", place.local % found)  # SLURM may show each task only its own
    torch.cuda.set_device(device)
    return device
