"""What each of two processes does in the tests of speed; spawned, so imported by name."""

import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import antiparallel.torch as ap
from antiparallel.benchmarks.speed import pytorch
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.pytorch_messages import Messages
from antiparallel.benchmarks.speed.pytorch_networks import build_network

RULES = ("plain", "bp", "ss", "ss-fixed", "ss-batch", "fa", "fa-sign")
WAYS = ("ddp", "fsdp2")
STEPS = 3


def case(way: str, **changes: Any) -> Case:
    """Return a case of two parts, with gradients of several megabytes: more than one bucket's."""
    settings = {"model": "convnet", "depth": 5, "width": 128, "pixels": 8, "batch": 4, "parts": 2}
    return Case.model_validate({**settings, "threads": 1, "way": way, **changes})


def with_travelling_feedback(case: Case, rule: str) -> nn.Module:
    """Build a network whose feedback is what torch sends around: a buffer or a parameter."""
    model = build_network(case, rule)
    for layer in model.modules():
        if isinstance(layer, ap.FeedbackLayer):
            feedback = layer.feedback
            assert feedback is not None
            del layer.feedback
            if case.way == "ddp":
                layer.register_buffer("feedback", feedback)
            else:
                layer.feedback = nn.Parameter(feedback, requires_grad=False)
    return model


def losses(case: Case, rule: str) -> list[float]:
    """Return the losses of some steps, between which the parts of steps are looked at."""
    contender = pytorch.build(case, rule)
    found = []
    for _ in range(STEPS):
        contender.forward()
        contender.gradients()
        contender.forward()
        contender.step()
        found.append(contender.loss.item())
    return found


def sent_after_a_forward_pass(case: Case) -> dict[str, int]:
    """Return what a step sends when the loss alone was computed before it."""
    contender = pytorch.build(case, "fa")
    for _ in range(2):
        contender.step()
    contender.forward()
    messages = Messages()
    with messages:
        contender.step()
    return messages.counted()


def sent_by_an_update(case: Case) -> dict[str, int]:
    """Return what an update sends that is made alone."""
    contender = pytorch.build(case, "fa")
    contender.step()
    messages = Messages()
    with messages:
        contender.update()
    return messages.counted()


def expected_of_ddp(case: Case) -> dict[str, int]:
    """Return what a step of DistributedDataParallel sends, by the buckets that it hands out."""
    sizes: list[int] = []

    def noted(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        sizes.append(bucket.buffer().nbytes)
        return allreduce_hook(group, bucket)

    model = build_network(case, "plain")
    ddp = DistributedDataParallel(model)
    ddp.register_comm_hook(None, noted)
    for _ in range(3):
        sizes.clear()
        ddp(torch.rand(4, 3, case.pixels, case.pixels)).sum().backward()
    buffers = list(model.buffers())
    return {
        "allreduce": len(sizes),
        "broadcast": len({buffer.dtype for buffer in buffers}),  # which are packed by type
        "bytes": sum(sizes) + sum(buffer.nbytes for buffer in buffers),
    }


def work(rank: int, ports: tuple[int, int], folder: Path) -> None:
    for way, port in zip(WAYS, ports, strict=True):
        os.environ.update(
            RANK=str(rank),
            WORLD_SIZE="2",
            LOCAL_RANK=str(rank),
            MASTER_ADDR="localhost",
            MASTER_PORT=str(port),
        )
        found: dict[str, Any] = {}
        with pytorch.joined(case(way)):
            found["sent"] = {rule: pytorch.collectives(case(way), rule) for rule in RULES}
            found["losses"] = {rule: losses(case(way), rule) for rule in ("plain", "fa")}
            found["after"] = sent_after_a_forward_pass(case(way))
            found["update"] = sent_by_an_update(case(way))
            if way == "ddp":
                found["expected"] = expected_of_ddp(case(way))
            pytorch.build_network = with_travelling_feedback
            found["mutant"] = pytorch.collectives(case(way), "fa")
            pytorch.build_network = build_network
        (folder / f"{way}-{rank}.json").write_text(json.dumps(found))
