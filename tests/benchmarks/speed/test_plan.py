"""What is measured, and what is refused before anything is."""

from pathlib import Path
from typing import get_args

import pytest

from antiparallel.benchmarks.speed.case import Case, Way
from antiparallel.benchmarks.speed.limits import WAYS
from antiparallel.benchmarks.speed.plan import plan, plan_cases
from antiparallel.spec import SpecError


def test_every_combination_is_a_case_and_sizes_are_a_convnets():
    cases = plan_cases(["resnet18", "convnet"], [8, 16], [4, 8], [2], {"pixels": 32, "seed": 3})
    told = [(case.model, case.batch, case.width, case.depth) for case in cases]
    usual = Case()
    assert told == [
        *[("resnet18", batch, usual.width, usual.depth) for batch in (8, 16)],
        *[("convnet", batch, width, 2) for batch in (8, 16) for width in (4, 8)],
    ]
    assert {(case.pixels, case.seed) for case in cases} == {(32, 3)}


def test_cases_that_differ_have_names_that_differ():
    changes = [
        {}, {"model": "vit"}, {"model": "convnet"}, {"model": "convnet", "width": 4},
        {"model": "convnet", "depth": 4}, {"batch": 4}, {"pixels": 4}, {"compiled": True},
        {"precision": "bfloat16"}, {"error_dtype": "bfloat16"}, {"channels_last": True},
        {"way": "accumulated", "parts": 2},
        {"way": "accumulated", "parts": 4}, {"way": "checkpointed"}, {"way": "ddp", "parts": 2},
        {"threads": 1}, {"device": "cuda"}, {"device": "cuda:1"}, {"seed": 1},
    ]  # fmt: skip
    names = [Case.model_validate(change).name for change in changes]
    assert len(set(names)) == len(names)
    assert names[0] == "resnet18-32x224"
    assert names[3] == "convnet-w4-d8-32x224"
    assert not any({"/", ":", " "} & set(name) for name in names)


def test_fields_of_a_network_that_has_none_of_them_are_not_in_its_name():
    assert Case(width=4).name == Case().name


def test_records_are_named_after_backend_and_engine(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    jobs = plan([Case()], ["torch", "keras"], ["ss", "fa"], [], tmp_path)
    assert [job.path.name for job in jobs] == [
        "torch-resnet18-32x224.json",
        "keras-jax-resnet18-32x224.json",
    ]
    assert list(jobs[0].contenders) == ["plain", "control", "ss", "fa"]


def test_rules_may_go_by_the_names_of_the_literature(tmp_path: Path):
    (job,) = plan([Case()], ["torch"], ["usf", "brsf"], [], tmp_path)
    assert list(job.contenders) == ["plain", "control", "ss", "ss-batch"]


@pytest.mark.parametrize(
    ("fields", "backend", "rules", "peers", "complaint"),
    [
        ({}, "jax", ["ss"], [], "backend='jax'"),
        ({}, "torch", ["sss"], [], "rule='sss'"),
        ({}, "torch", [], [], "rules=.."),
        ({}, "torch", ["ss", "usf"], [], "rules that differ"),
        ({}, "torch", ["ss"], ["biotorch2"], "'biotorch2'"),
        ({}, "keras", ["ss"], ["biotorch"], "--backend torch"),
        ({"channels_last": True}, "keras", ["ss"], [], "--backend torch"),
        ({"way": "ddp", "parts": 2}, "keras", ["ss"], [], "keras has, .*-ddp-2-parts"),
        ({"way": "fsdp2", "parts": 2}, "keras", ["ss"], [], "keras has, .*-fsdp2-2-parts"),
        ({"way": "devices", "parts": 2}, "torch", ["ss"], [], "torch has, .*-devices-2-parts"),
        ({"way": "ddp"}, "torch", ["ss"], [], "several parts.*-ddp"),
        ({"way": "accumulated"}, "torch", ["ss"], [], "several parts.*-accumulated"),
        ({"parts": 2}, "torch", ["ss"], [], "several parts.*-2-parts"),
        ({"way": "checkpointed", "parts": 2}, "torch", ["ss"], [], "several parts.*-checkpointed"),
        ({"way": "accumulated", "parts": 3}, "torch", ["ss"], [], "equal parts.*-32x224-.*3-parts"),
        ({"way": "accumulated", "parts": 3}, "keras", ["ss"], [], "equal parts.*-32x224-.*3-parts"),
        ({"model": "vit", "pixels": 24}, "torch", ["ss"], [], "16 pixels.*vit-32x24"),
        ({"model": "vit", "pixels": 24}, "keras", ["ss"], [], "16 pixels.*vit-32x24"),
        (
            {"way": "fsdp2", "parts": 2, "channels_last": True}, "torch", ["ss"], [],
            "fully_shard.*channels-last-fsdp2",
        ),
        ({"way": "checkpointed"}, "keras", ["ss"], [], "--model vit.*resnet18-32x224-checkpointed"),
        ({}, "torch", ["ss", "fa-sign"], ["biotorch"], "bp, ss, ss-fixed.*ss, fa-sign"),
        ({"model": "vit"}, "torch", ["ss"], ["biotorch"], "two dimensions.*vit-32x224"),
        ({"model": "retinanet"}, "torch", ["ss"], ["biotorch"], "leaves no layer to backprop"),
        ({"precision": "bfloat16"}, "torch", ["ss"], ["biotorch"], "one precision.*-bfloat16"),
        ({"error_dtype": "bfloat16"}, "torch", ["ss"], ["biotorch"], "one precision.*-errors"),
        ({"way": "fsdp2", "parts": 2}, "torch", ["ss"], ["biotorch"], "spread over.*-fsdp2"),
    ],
)  # fmt: skip
def test_what_is_not_possible_is_refused(
    tmp_path: Path, monkeypatch, fields, backend, rules, peers, complaint: str
):
    monkeypatch.setattr("antiparallel.benchmarks.speed.plan.find_spec", lambda name: name)
    with pytest.raises(SpecError, match=complaint):
        plan([Case(), Case(**fields, seed=1)], [backend], rules, peers, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backend", ["torch", "keras"])
@pytest.mark.parametrize("way", get_args(Way))
def test_every_way_is_possible_on_a_backend_that_has_it(tmp_path: Path, way: Way, backend: str):
    parts = 1 if way in ("alone", "checkpointed") else 2
    wanted = [Case(model="vit", way=way, parts=parts)], [backend], ["ss"], [], tmp_path
    if way in WAYS[backend]:
        assert len(plan(*wanted)) == 1
    else:
        with pytest.raises(SpecError, match=f"{backend} has"):
            plan(*wanted)


def test_a_case_is_named_in_the_singular_where_there_is_one():
    assert Case(threads=1).name == "resnet18-32x224-1-thread"
    assert Case(threads=4).name == "resnet18-32x224-4-threads"
    ddp = Case(way="ddp", parts=2, threads=1)
    assert ddp.name == "resnet18-32x224-ddp-2-parts-1-thread"


def test_a_peer_that_is_not_installed_is_told_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("antiparallel.benchmarks.speed.plan.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"pip install 'antiparallel\[peer\]'"):
        plan([Case()], ["torch"], ["ss"], ["biotorch"], tmp_path)


def test_what_was_measured_is_not_measured_again_unless_asked(tmp_path: Path):
    wanted = [Case(), Case(batch=8)], ["torch"], ["ss"], [], tmp_path
    before = plan(*wanted)
    before[1].path.write_text("{}")
    with pytest.raises(SpecError, match=r"--overwrite.*resnet18-8x224"):
        plan(*wanted)
    assert plan(*wanted, overwrite=True) == before


@pytest.mark.parametrize(("times", "backends"), [(2, ["torch"]), (1, ["torch", "torch"])])
def test_nothing_is_measured_twice(tmp_path: Path, times: int, backends: list[str]):
    with pytest.raises(SpecError, match="the same twice"):
        plan([Case()] * times, backends, ["ss"], [], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((["lenet"], [1], [], [], {}), "model='lenet'"),
        ((["vit"], [0], [], [], {}), "batch=0"),
        ((["vit"], [1], [], [], {"way": "alike"}), "way='alike'"),
        ((["vit"], [1], [], [], {"precision": "float16"}), "precision='float16'"),
        ((["vit"], [1], [4], [], {}), "--model convnet"),
        ((["vit"], [1], [], [4], {}), "--model convnet"),
        ((["convnet"], [1], [0], [4], {}), "width=0"),
    ],
)
def test_values_that_no_case_has_are_refused(arguments, complaint: str):
    with pytest.raises(SpecError, match=complaint):
        plan_cases(*arguments)
