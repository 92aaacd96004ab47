"""Records keep every timing, and nothing else is taken for one."""

import json
from pathlib import Path

import pytest

from antiparallel.benchmarks.speed.record import read_record, read_records, write_record
from antiparallel.spec import SpecError


def test_a_record_comes_back_as_it_was_written(tmp_path: Path, make_record):
    record = make_record(
        memory={"plain": 100, "ss": 110}, collectives={"ss": {"all_reduce": 1}}, batch=4
    )
    path = write_record(record, tmp_path / "new")
    assert path == tmp_path / "new" / "torch-resnet18-4x224.json"
    assert read_record(path) == record
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_number_says_where_it_comes_from(tmp_path: Path, make_record):
    told = json.loads(write_record(make_record(), tmp_path).read_text())
    assert told["origin"].keys() == {"started", "command", "host", "versions", "commit"}
    assert {"antiparallel", "python", "numpy", "fake"} <= told["origin"]["versions"].keys()
    assert (told["rounds"], told["case"]["seed"]) == (9, 0)
    assert [len(steps) for steps in told["timings"]["step"].values()] == [9, 9, 9]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["version"], 1),
        (["rounds"], 8),
        (["surplus"], 1),
        (["case", "batch"], 0),
        (["case", "model"], "lenet"),
        (["timings", "step", "ss"], [1.0] * 8),
        (["timings", "step", "ss", 0], float("nan")),
        (["timings", "step", "plain", 0], 0.0),
        (["timings", "forward", "ss"], []),
        (["timings", "step"], {"ss": [1.0] * 9}),
        (["timings", "gradients"], {}),
        (["timings", "update", "ss"], []),
        (["memory", "ss"], [{"before": -1, "peak": 1}]),
        (["origin", "command"], None),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, make_record, place, value):
    path = write_record(make_record(), tmp_path)
    told = json.loads(path.read_text())
    inner = told
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    path.write_text(json.dumps(told))
    with pytest.raises(SpecError, match=path.name):
        read_record(path)


@pytest.mark.parametrize("name", ["plain", "control"])
def test_a_record_without_what_rules_are_compared_with_is_none(
    tmp_path: Path, make_record, name: str
):
    path = write_record(make_record(), tmp_path)
    told = json.loads(path.read_text())
    for seconds in told["timings"].values():
        del seconds[name]
    path.write_text(json.dumps(told))
    with pytest.raises(SpecError, match="its control"):
        read_record(path)


def test_half_a_record_is_named(tmp_path: Path, make_record):
    path = write_record(make_record(), tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SpecError, match=path.name):
        read_records(tmp_path)


def test_records_are_read_network_by_network_and_by_size(tmp_path: Path, make_record):
    for case in ({"model": "vit"}, {"batch": 128}, {"batch": 16}, {"model": "resnet50"}):
        write_record(make_record(**case), tmp_path)
    write_record(make_record(batch=16, backend="keras", engine="jax"), tmp_path)
    read = [(record.framework, record.case.name) for record in read_records(tmp_path)]
    assert read == [
        ("keras-jax", "resnet18-16x224"),
        ("torch", "resnet18-16x224"),
        ("torch", "resnet18-128x224"),
        ("torch", "resnet50-32x224"),
        ("torch", "vit-32x224"),
    ]
