"""``antiparallel speed``."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from antiparallel.benchmarks.commands.app import app
from antiparallel.benchmarks.speed.memory import Amount
from antiparallel.benchmarks.speed.record import read_records
from antiparallel.spec import SpecError

Command = Callable[..., subprocess.Popen[str]]
TINY = [
    "speed", "--backend", "torch", "--model", "convnet", "--width", "4", "--depth", "2",
    "--batch", "4", "--pixels", "8", "--threads", "1",
]  # fmt: skip


def speed(*arguments: str) -> str:
    """Run the command in this process, and return what it prints."""
    found = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture
def amounts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Let no process measure memory, and return who was asked for."""
    asked: list[tuple[str, str, str]] = []

    def measure_apart(backend: str, case, rule: str) -> Amount:
        asked.append((backend, case.name, rule))
        return Amount(before=100, peak=100 + len(rule))

    monkeypatch.setattr("antiparallel.benchmarks.speed.run.measure_apart", measure_apart)
    return asked


def test_each_combination_leaves_a_record_and_all_one_report(
    tmp_path: Path, counter_builder, amounts
):
    out = tmp_path / "found"
    output = speed(*TINY, "--batch", "8", "--rounds", "6", "--out", str(out))
    names = ["torch-convnet-w4-d2-4x8-1-thread", "torch-convnet-w4-d2-8x8-1-thread"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(f"{name}.json" for name in names), "speed.md", "speed.png", "growth.png"]
    )
    for record, name in zip(read_records(out), names, strict=True):
        assert f"torch-{record.case.name}" == name
        assert record.timings.step == {
            "plain": (5,) * 6, "control": (5,) * 6, "ss": (2,) * 6, "fa": (2,) * 6,
        }  # fmt: skip
        assert {rule: amount[0].own for rule, amount in record.memory.items()} == {
            "plain": 5, "control": 5, "ss": 2, "fa": 2,
        }  # fmt: skip
        assert record.origin.versions["device"] == "clock"
        assert record.collectives == {}
    assert len(amounts) == 2 * 3 * 4
    assert amounts[:4] == [
        ("torch", names[0].removeprefix("torch-"), rule) for rule in ("plain", "plain", "ss", "fa")
    ]
    assert re.search(r"ss +│ +0\.400 \[0\.400, 0\.400\] +│ +0\.400 +│ +2 ", output)
    assert str(out / "speed.md") in output


def test_the_seed_decides_the_order(tmp_path: Path, counter_builder):
    orders = []
    for seed in ("1", "2", "1"):
        counter_builder.clock.log.clear()
        wanted = ["--seed", seed, "--no-memory", "--overwrite", "--out", str(tmp_path)]
        speed(*TINY, *wanted)
        orders.append([name for name, _ in counter_builder.clock.log])
    assert orders[0] == orders[2] != orders[1]


def test_a_peer_is_measured_under_the_same_rules_and_its_version_told(
    tmp_path: Path, counter_builder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("antiparallel.benchmarks.speed.plan.find_spec", lambda name: name)
    monkeypatch.setattr("antiparallel.benchmarks.speed.run.version", lambda name: f"{name}'s")
    speed(*TINY, "--peer", "biotorch", "--no-memory", "--out", str(tmp_path))
    assert counter_builder.built[2:] == ["ss", "fa", "biotorch:ss", "biotorch:fa"]
    (record,) = read_records(tmp_path)
    assert record.origin.versions["biotorch"] == "biotorch's"
    assert "`biotorch:fa`" in (tmp_path / "speed.md").read_text()


def test_the_report_is_on_records_of_earlier_commands_too(tmp_path: Path, counter_builder, amounts):
    for rule, batch in (("ss", "4"), ("ss-fixed", "2")):
        speed(*TINY[:-6], "--batch", batch, "--rule", rule, "--no-memory", "--out", str(tmp_path))
    page = (tmp_path / "speed.md").read_text()
    assert "`ss`" in page
    assert "`ss-fixed`" in page
    assert not amounts


def test_a_record_is_replaced_only_when_asked(tmp_path: Path, counter_builder):
    wanted = [*TINY, "--no-memory", "--out", str(tmp_path), "--rounds"]
    speed(*wanted, "3")
    with pytest.raises(SpecError, match="--overwrite"):
        speed(*wanted, "4")
    speed(*wanted, "4", "--overwrite")
    assert [record.rounds for record in read_records(tmp_path)] == [4]


def test_wrong_combinations_are_refused_before_anything_is_built(
    tmp_path: Path, counter_builder, amounts
):
    out = tmp_path / "found"
    with pytest.raises(SpecError, match=r"several parts.*-accumulated"):
        speed(*TINY, "--way", "accumulated", "--out", str(out))
    assert not counter_builder.built
    assert not amounts
    assert not out.exists()


def test_a_damaged_record_is_refused_before_anything_is_built(tmp_path: Path, counter_builder):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SpecError, match=r"other\.json"):
        speed(*TINY, "--no-memory", "--out", str(tmp_path))
    assert not counter_builder.built


def test_what_a_backend_refuses_is_not_measured_at_all(tmp_path: Path, counter_builder, amounts):
    with pytest.raises(SpecError, match="counted"):
        speed(*TINY, "--rule", "ss", "--rule", "ss-batch", "--out", str(tmp_path / "found"))
    assert counter_builder.built == ["plain", "plain", "ss"]
    assert not counter_builder.clock.log
    assert not amounts
    assert not (tmp_path / "found").exists()


def test_an_interrupt_leaves_whole_records_only(tmp_path: Path, command: Command):
    here = str(Path(__file__).parent)
    process = command(
        "speed", "--backend", "torch", "--batch", "1", "--batch", "2", "--batch", "3",
        "--no-memory", "--rounds", "30", "--out", "found",
        after=f"import sys; sys.path.insert(0, {here!r}); import interrupting",
    )  # fmt: skip
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130, complaint
    (record,) = read_records(tmp_path / "found")
    assert record.case.batch == 1
    assert "resnet18-1x224" in (tmp_path / "found" / "speed.md").read_text()
    assert not list(tmp_path.rglob("*.draft"))


def test_torch_is_measured_from_end_to_end(tmp_path: Path, command: Command):
    pytest.importorskip("torch")
    process = command(*TINY, "--rounds", "3", "--no-memory", "--out", "found")
    output, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    (record,) = read_records(tmp_path / "found")
    assert list(record.timings.step) == ["plain", "control", "ss", "fa"]
    assert "torch" in record.origin.versions
    assert record.origin.command.endswith("--rounds 3 --no-memory --out found")
    assert "speed.md" in output


def test_of_several_processes_one_writes_and_speaks(tmp_path: Path, command: Command):
    pytest.importorskip("torch")
    shared = ["--way", "ddp", "--parts", "2", "--width", "8", "--rounds", "1", "--out", "found"]
    process = command(*TINY, *shared)
    output, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    assert output.count("speed.md") == 1
    records = read_records(tmp_path / "found")
    assert [record.case.width for record in records] == [4, 8]
    for record in records:
        assert record.collectives["ss"] == record.collectives["fa"] == record.collectives["plain"]
        assert sum(record.collectives["plain"].values()) > 0
        assert list(record.collectives) == ["plain", "ss", "fa"]
        assert record.memory == {}
    assert "Memory of several processes is not measured." in output


def test_instructions_are_counted_of_each_contender_where_asked_for(
    tmp_path: Path, counter_builder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "antiparallel.benchmarks.speed.run.count_instructions", lambda case, rule: len(rule)
    )
    monkeypatch.setattr(shutil, "which", lambda name: name)
    speed(*TINY, "--rounds", "6", "--no-memory", "--instructions", "--out", str(tmp_path))
    (record,) = read_records(tmp_path)
    assert record.instructions == {"plain": 5, "control": 5, "ss": 2, "fa": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "keras"], "--backend torch with --instructions"),
        (["--backend", "torch", "--threads", "2"], "one thread on a CPU"),
    ],
)
def test_instructions_that_cannot_be_counted_are_refused(
    tmp_path: Path, arguments: list[str], message: str
):
    with pytest.raises(SpecError, match=message):
        speed("speed", *arguments, "--instructions", "--out", str(tmp_path))
    assert not list(tmp_path.iterdir())
