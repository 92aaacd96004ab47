"""What is timed on PyTorch is training as one would write it by hand."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import antiparallel.torch as ap
from antiparallel.benchmarks.models.networks import ConvNet
from antiparallel.benchmarks.models.pytorch import convnet
from antiparallel.benchmarks.recipes.coco import LAST_LAYERS
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.measure import measure
from antiparallel.benchmarks.speed.pictures import random_pictures
from antiparallel.benchmarks.speed.pytorch import TorchContender, build, collectives, joined
from antiparallel.benchmarks.speed.pytorch_networks import build_network
from antiparallel.spec import SpecError

EPS = torch.finfo(torch.float32).eps
STEPS = 3
SIZES: dict[str, dict[str, Any]] = {
    "convnet": {"pixels": 8, "depth": 3, "width": 4},
    "alexnet": {"pixels": 63},
    "resnet18": {"pixels": 32},
    "resnet50": {"pixels": 32},
    "vit": {"pixels": 16},
    "retinanet": {"pixels": 32},
}
"""Of each network, so small that a step takes no time."""


def case(model: str = "convnet", **changes: Any) -> Case:
    settings = {"model": model, "batch": 4, "threads": 1, **SIZES[model]}
    return Case.model_validate(settings | changes)


def losses(contender: TorchContender, steps: int = STEPS) -> list[float]:
    found = []
    for _ in range(steps):
        contender.step()
        found.append(contender.loss.item())
    return found


def by_hand(rule: str | None, parts: int = 1, updates: int = 1) -> list[float]:
    """Train the small convnet in torch's own words, with some updates by the same gradients."""
    model = convnet(ConvNet(3, 10, depth=3, width=4))
    if rule is not None:
        ap.convert(model, rule, seed=0)
    ap.initialize(model, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    pictures = random_pictures(case())
    images = torch.from_numpy(pictures.images).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(pictures.labels)
    found = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses = []
        for some, classes in zip(images.chunk(parts), labels.chunk(parts), strict=True):
            losses.append(F.cross_entropy(model(some), classes) / parts)
            losses[-1].backward()
        for _ in range(updates):
            optimizer.step()
        found.append(sum(loss.item() for loss in losses))
    return found


@pytest.mark.parametrize("rule", ["plain", "bp", "ss", "ss-fixed", "ss-batch", "fa", "fa-sign"])
def test_losses_are_those_of_a_loop_written_by_hand(rule: str):
    assert losses(build(case(), rule)) == by_hand(None if rule == "plain" else rule)


def test_gradients_of_parts_are_added_up():
    accumulated = case(way="accumulated", parts=2)
    # Here the parts' losses are added up in float64.
    by_parts = pytest.approx(by_hand("ss", parts=2), rel=EPS)
    assert losses(build(accumulated, "ss")) == by_parts
    assert losses(build(case(), "ss")) != by_parts  # a part is normalised by itself


@pytest.mark.parametrize("way", ["alone", "accumulated", "checkpointed"])
def test_only_a_step_updates_weights_and_it_does_so_once(way: str):
    settings = case(way=way, parts=2 if way == "accumulated" else 1)
    stepping, looking = build(settings, "fa"), build(settings, "fa")
    found = []
    for _ in range(STEPS):
        looking.forward()
        looking.gradients()
        looking.gradients()
        looking.step()
        found.append(looking.loss.item())
    assert found == losses(stepping)


@pytest.mark.parametrize("parts", [1, 2])
def test_an_update_is_that_of_torchs_own_optimizer_with_the_gradients_that_a_step_left(parts: int):
    contender = build(case(way="accumulated" if parts > 1 else "alone", parts=parts), "fa")
    contender.update()  # by no gradients
    found = []
    for _ in range(STEPS):
        found += losses(contender, 1)
        contender.update()
    assert found == pytest.approx(by_hand("fa", parts, updates=2), rel=EPS)
    assert found[1:] != pytest.approx(by_hand("fa", parts)[1:], rel=EPS)


def test_every_part_of_a_step_is_timed():
    timings = measure({"plain": build(case(), "plain")}, rounds=4, seed=0)
    rounds = {part: len(seconds["plain"]) for part, seconds in timings}
    assert rounds == {"step": 4, "gradients": 2, "forward": 2, "update": 2}


@pytest.mark.parametrize("model", ["convnet", "resnet18", "retinanet"])
def test_plain_its_control_and_bp_learn_in_the_same_bits(model: str):
    plain, control, bp = (losses(build(case(model), rule)) for rule in ("plain", "plain", "bp"))
    assert plain == control == bp


@pytest.mark.parametrize("model", ["convnet", "resnet50", "vit", "retinanet"])
def test_every_rule_begins_with_plain_backprops_loss_and_learns_otherwise(model: str):
    plain, ss = (losses(build(case(model), rule), 2) for rule in ("plain", "ss"))
    assert plain[0] == ss[0]
    assert plain[1] != ss[1]


def test_a_detectors_last_layers_learn_by_backprop_as_in_its_recipe():
    model = build_network(case("retinanet"), "ss")
    rules = {
        name: module.rule.name
        for name, module in model.named_modules()
        if isinstance(module, ap.FeedbackLayer)
    }
    assert {name for name, rule in rules.items() if rule == "bp"} == set(LAST_LAYERS)
    assert set(rules.values()) == {"bp", "ss"}


class Kept:
    """Bytes that a forward pass keeps for the backward pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        self.bytes += tensor.nbytes
        return tensor


def kept(contender: TorchContender) -> int:
    found = Kept()
    with torch.autograd.graph.saved_tensors_hooks(found.pack, lambda tensor: tensor):
        contender.forward()
    return found.bytes


@pytest.mark.parametrize("model", ["convnet", "alexnet", "resnet18", "vit", "retinanet"])
def test_checkpoints_keep_less_and_change_nothing(model: str):
    usual, again = (build(case(model, way=way), "ss") for way in ("alone", "checkpointed"))
    assert kept(again) < kept(usual)
    assert losses(again, 2) == losses(usual, 2)


class Convolutions(TorchDispatchMode):
    """What convolutions meanwhile compute in, and whether their pictures' channels are last."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[torch.dtype, bool]] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), settings: Any = None
    ) -> Any:
        if "convolution" in str(operation) and "backward" not in str(operation):
            images = arguments[0]
            last = images.is_contiguous(memory_format=torch.channels_last)
            self.seen.add((images.dtype, last and not images.is_contiguous()))
        return operation(*arguments, **(settings or {}))


@pytest.mark.parametrize("rule", ["plain", "ss"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_precision_and_layout_are_those_of_the_case(rule: str, precision: str, channels_last: bool):
    usual = losses(build(case(), rule))
    contender = build(case(precision=precision, channels_last=channels_last), rule)
    with Convolutions() as convolutions:
        contender.forward()
    assert convolutions.seen == {(getattr(torch, precision), channels_last)}
    # Each of the four layers rounds what it gets and what it gives, to 2**-8 in bfloat16.
    tolerance = 8 * (2**-8 if precision == "bfloat16" else 8 * 8 * 4 * EPS)
    assert losses(contender) == pytest.approx(usual, rel=tolerance)


def test_errors_are_rounded_if_the_case_says_so_and_nothing_else_is():
    usual, narrow = (build(case(error_dtype=name), "ss") for name in (None, "bfloat16"))
    with Convolutions() as forwards:
        narrow.forward()
    assert {dtype for dtype, _ in forwards.seen} == {torch.float32}
    with Convolutions() as all_of_a_step:  # those that send errors back among them
        narrow.step()
    assert {dtype for dtype, _ in all_of_a_step.seen} == {torch.float32, torch.bfloat16}
    usual.step()
    assert torch.equal(narrow.loss, usual.loss)


def test_a_compiled_network_takes_the_same_steps_and_none_of_them_uncompiled():
    torch._dynamo.reset()
    for rule in ("plain", "ss"):
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        compiled = build(case(compiled=True), rule)
        usual = losses(build(case(), rule))
        assert losses(compiled) == pytest.approx(usual, rel=STEPS * 8 * 8 * 4 * EPS)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
        assert torch._dynamo.config.fail_on_recompile_limit_hit


def test_it_says_what_it_ran_on():
    contender = build(case(), "ss")
    contender.step()
    described = contender.describe()
    assert described["torch"] == torch.__version__
    assert (described["device"], described["threads"]) == ("cpu", "1")
    assert contender.memory() > 1 << 20


def test_a_network_alone_sends_nothing():
    with joined(case()):
        assert collectives(case(), "fa") == {"bytes": 0}


@pytest.mark.parametrize(
    ("settings", "rule", "message"),
    [
        (case(), "nonsense", "nonsense"),
        (case(device="abacus"), "ss", "device='abacus'"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: Case, rule: str, message: str):
    with pytest.raises(SpecError, match=message):
        build(settings, rule)


def test_processes_that_are_not_there_are_refused():
    with pytest.raises(SpecError, match="parts=2 for 1"), joined(case(way="ddp", parts=2)):
        pass


class StandIn:
    """BioTorch's converter, as far as a test needs it: it notes what it is asked for."""

    def __init__(self, module: nn.Module, mode: str) -> None:
        print(f"Module has been converted to {mode} mode")
        self.module = module
        asked.append(mode)


asked: list[str] = []


@pytest.fixture
def biotorch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked.clear()
    for name in ("biotorch", "biotorch.module", "biotorch.module.biomodule"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["biotorch.module.biomodule"], "BioModule", StandIn, False)


@pytest.mark.usefixtures("biotorch")
@pytest.mark.parametrize(
    ("rule", "mode"),
    [
        ("ss", "usf"),
        ("ss-fixed", "frsf"),
        ("ss-batch", "brsf"),
        ("fa", "fa"),
        ("bp", "backpropagation"),
    ],
)
def test_a_peer_has_the_same_network_and_its_own_name_of_the_rule(
    rule: str, mode: str, capsys: pytest.CaptureFixture[str]
):
    assert losses(build(case(), f"biotorch:{rule}")) == losses(build(case(), "plain"))
    assert asked == [mode]
    assert capsys.readouterr().out == ""


def test_a_peer_that_is_not_installed_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "biotorch", None)
    monkeypatch.delitem(sys.modules, "biotorch.module", raising=False)
    monkeypatch.delitem(sys.modules, "biotorch.module.biomodule", raising=False)
    with pytest.raises(SpecError, match=r"pip install 'antiparallel\[peer\]'"):
        build(case(), "biotorch:ss")


@pytest.mark.gpu
@pytest.mark.parametrize("rule", ["plain", "ss", "fa"])
def test_a_gpu_takes_the_same_steps_and_its_memory_counts(rule: str):
    usual = losses(build(case(), rule))
    contender = build(case(device="cuda"), rule)
    assert losses(contender) == pytest.approx(usual, rel=STEPS * 8 * 8 * 4 * EPS)
    assert contender.memory() == torch.cuda.max_memory_allocated()
    assert contender.describe()["device"] == torch.cuda.get_device_name()
