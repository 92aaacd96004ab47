"""Two processes under DistributedDataParallel: no feedback travels, and it is the same in both."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
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


# torch's own, as its processes meet
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_two_processes_train_as_one_and_no_feedback_travels(tmp_path: Path) -> None:
    inputs = torch.randn(8, 6, dtype=torch.float64)
    torch.save(inputs, tmp_path / "inputs")
    alone = network()
    sizes = [parameter.numel() for parameter in alone.parameters()]
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    train(alone, copy.deepcopy(inputs))
    for rank in range(2):
        state, broadcasts = torch.load(tmp_path / str(rank), weights_only=True)
        assert sorted(broadcasts) == sorted(sizes)  # once, when DDP is built
        for name, value in alone.state_dict().items():
            # float64; the mean over processes adds in another order
            assert torch.allclose(state[name].double(), value.double(), rtol=0, atol=1e-12)
