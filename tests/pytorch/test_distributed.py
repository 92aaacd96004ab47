"""Two processes under DistributedDataParallel: no feedback travels, and it is the same in both."""

import copy
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from two_processes import network, train, work


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
