"""Two processes take the steps that are timed: feedback costs no message."""

import json
import socket
from typing import Any

import pytest
import speed_work
import torch
import torch.multiprocessing as mp
from speed_work import RULES, STEPS, WAYS, case

from antiparallel.benchmarks.speed.pytorch import build
from antiparallel.benchmarks.speed.pytorch_networks import build_network

# The longest sums are those of a weight's gradient, over all pixels of a batch; two processes add
# them up in another order than one, in each of six layers and of the steps.
TOLERANCE = 6 * STEPS * 8 * 8 * 4 * torch.finfo(torch.float32).eps

both_ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Let two processes do all of ``speed_work``, and return what each found, way by way."""
    folder = tmp_path_factory.mktemp("found")
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("localhost", 0))
        ports = (one.getsockname()[1], other.getsockname()[1])
    mp.spawn(speed_work.work, (ports, folder), nprocs=2)
    return {
        way: [json.loads((folder / f"{way}-{rank}.json").read_text()) for rank in range(2)]
        for way in WAYS
    }


Found = dict[str, list[dict[str, Any]]]


@both_ways
@pytest.mark.parametrize("rule", ["plain", "fa"])
def test_they_learn_as_one_process_does_by_parts(found: Found, way: str, rule: str):
    means = [
        sum(parts) / 2
        for parts in zip(*(process["losses"][rule] for process in found[way]), strict=True)
    ]
    alone = build(case("accumulated"), rule)
    losses = []
    for _ in range(STEPS):
        alone.step()
        losses.append(alone.loss.item())
    assert means == pytest.approx(losses, rel=TOLERANCE)


def test_what_is_counted_is_what_ddp_says_that_it_sends(found: Found):
    for process in found["ddp"]:
        assert process["expected"]["allreduce"] > 1
        assert process["sent"]["plain"] == process["expected"]


def test_shards_meet_once_for_parameters_and_once_for_gradients(found: Found):
    size = sum(parameter.nbytes for parameter in build_network(case("fsdp2"), "plain").parameters())
    for process in found["fsdp2"]:
        # Each message has a half on one side and the whole on the other.
        assert process["sent"]["plain"] == {
            "allgather_base": 1,
            "reduce_scatter_base": 1,
            "bytes": 3 * size,
        }


@both_ways
def test_a_step_sends_the_same_after_the_loss_alone_was_computed(found: Found, way: str):
    for process in found[way]:
        assert process["after"] == process["sent"]["fa"]


@both_ways
def test_an_update_sends_nothing(found: Found, way: str):
    for process in found[way]:
        assert process["update"] == {"bytes": 0}


@both_ways
def test_feedback_takes_no_message_under_any_rule(found: Found, way: str):
    for process in found[way]:
        assert process["sent"] == dict.fromkeys(RULES, process["sent"]["plain"])


@both_ways
def test_feedback_that_travels_would_be_seen(found: Found, way: str):
    for process in found[way]:
        assert process["mutant"]["bytes"] > process["sent"]["plain"]["bytes"]
