"""What each process of the DistributedDataParallel test does; spawned, so imported by name."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import antiparallel.torch as ap

ROUNDS = 2


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.Linear(8, 3))
    ap.convert(model.double(), "fa", overrides={"2": "ss-batch", "3": "ss-fixed"}, seed=3)
    return ap.initialize(model, seed=3)


def train(model: nn.Module, inputs: torch.Tensor) -> None:
    optimizer = ap.SGD(model.parameters(), lr=0.1)
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()


def work(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    broadcasts = []
    torch.manual_seed(rank)  # whatever differs between processes must not matter
    model = network()
    original = dist._broadcast_coalesced

    def counted(group: object, tensors: list[torch.Tensor], *rest: object) -> None:
        broadcasts.extend(tensor.numel() for tensor in tensors)
        original(group, tensors, *rest)

    dist._broadcast_coalesced = counted
    inputs = torch.load(f"{folder}/inputs", weights_only=True)
    train(DistributedDataParallel(model), inputs[rank::2])
    torch.save((model.state_dict(), broadcasts), f"{folder}/{rank}")
    dist.destroy_process_group()
