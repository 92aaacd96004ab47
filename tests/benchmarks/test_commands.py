"""The command's errors are one message on stderr and exit code 2, never a traceback."""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from rich.progress import Progress

from antiparallel.benchmarks import cli
from antiparallel.benchmarks.data.splits import FileSplit
from antiparallel.benchmarks.recipes import RECIPES
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.report.results import gather
from antiparallel.benchmarks.report.runs import find_runs
from antiparallel.benchmarks.terminal import pictures_bar
from antiparallel.conformance.records import Record as CheckRecord
from antiparallel.spec import SpecError

from .data.conftest import write_tree

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["antiparallel", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits/resnet-ss"], "Received: recipe='digits/resnet-ss'"),
        (["train", "digits/convnet-ss", "--backend", "theano"], "Received: backend='theano'"),
        (["train", "digits/convnet-ss", "--set", "rule=hebb"], "Received: rule='hebb'"),
        (["train", "digits/convnet-ss", "--set", "size=1"], "Received: size"),
        (["train", "digits/convnet-ss", "--set", "device=abacus"], "Received: device='abacus'"),
        (["train", "digits/convnet-ss", "--set", "batch_size=5000"], "batch_size=5000"),
        (["train", "digits/convnet-ss", "--seed", "-1"], "Received: seed=-1"),
        (["train", "digits/convnet-ss", "--sharded"], "several devices"),
        (["reproduce", "wordnet"], "Received: tier='wordnet'"),
        (["reproduce", "imagenet"], "Expected --data DIR"),
        (["reproduce", "imagenet", "--data", "nowhere"], "Received: 'nowhere'"),
        (["reproduce", "digits", "--data", "."], "Expected no --data"),
        (["train", "imagenette/alexnet-fa"], "Expected --data DIR"),
        (["reproduce", "digits", "--seeds", "0"], "Received: seeds=0"),
        (["reproduce", "digits", "--backend", "theano"], "Received: backend='theano'"),
        (["reproduce", "digits", "--set", "rule=fa"], "Received: rule"),
        (["report", "nowhere"], "Received: 'nowhere'"),
        (["cache", "--out", "copy"], "Expected either --data DIR or --check"),
        (["cache", "--out", "copy", "--data", "nowhere"], "Received: 'nowhere'"),
        (["cache", "--out", "copy", "--check"], "Received: cache.json"),
        (["conformance", "--backend", "theano"], "Received: backend='theano'"),
        (["conformance", "--only", "no_such_check"], "no_such_check"),
    ],
)
def test_a_wrong_argument_is_one_message_and_nothing_is_written(
    run: Run, tmp_path: Path, arguments: list[str], message: str
):
    code, output, complaint = run(*arguments)
    assert code == 2
    assert message in complaint
    assert "Traceback" not in complaint
    assert not output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("reproduce", "digits"), ("search-lr", "digits/convnet-ss")])
def test_a_launcher_is_for_one_run_only(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, str]
):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    code, _, complaint = run(*command)
    assert code == 2
    assert "Received: 2 processes" in complaint


def test_help_and_version_are_shown(run: Run):
    for arguments in (["--help"], ["train", "--help"], ["reproduce", "--help"], ["--version"]):
        code, output, _ = run(*arguments)
        assert code == 0
        assert "antiparallel" in output


def test_recipes_lists_every_recipe(run: Run):
    _, output, _ = run("recipes")
    assert all(name in output for name in RECIPES)


def test_a_missing_dependency_is_named_with_the_way_to_install_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "antiparallel.benchmarks.steppers.pytorch", raising=False)
    code, _, complaint = run("train", "digits/convnet-ss")
    assert code == 2
    assert "torch" in complaint
    assert "pip install" in complaint


@pytest.mark.parametrize("status", ["passed", "failed", "unsupported"])
def test_conformance_shows_each_check_and_fails_if_one_does(
    run: Run, monkeypatch: pytest.MonkeyPatch, status: str
):
    record = CheckRecord("check_feedback", "R1", status, "Observed W.", "paste me", 3, 0.1)

    def check_backend(backend, *, profile, only, progress):
        progress(record, 1, 1)
        return [record]

    monkeypatch.setattr("antiparallel.conformance.check_backend", check_backend)
    code, output, _ = run("conformance", "--backend", "reference")
    assert code == (1 if status == "failed" else 0)
    for shown in ("check_feedback", "R1", f"1 {status}", "Observed W.", "paste me"):
        assert shown in output


TINY = ["--set", "epochs=1", "--set", "depth=1", "--set", "width=2", "--set", "batch_size=300"]


def test_a_run_is_not_begun_over_or_mixed_with_another(run: Run, tmp_path: Path):
    code, output, _ = run("train", "digits/convnet-ss", "--out", "mine", *TINY)
    assert code == 0
    assert "complete" in output
    before = (tmp_path / "mine" / "record.json").read_bytes()
    for arguments, message in (
        (["digits/convnet-ss"], "--resume"),
        (["digits/convnet-ss", "--resume", "--set", "lr=1"], "lr 0.05, not 1.0"),
        (["digits/convnet-ss", "--resume", "--seed", "1"], "but it has 0, not 1"),
        (["digits/convnet-fa", "--resume"], "setting 'ss', not 'fa'"),
    ):
        code, _, complaint = run("train", *arguments, "--out", "mine", *TINY)
        assert code == 2
        assert message in complaint
    assert run("train", "digits/convnet-ss", "--resume", "--out", "mine", *TINY)[0] == 0
    assert (tmp_path / "mine" / "record.json").read_bytes() == before


def test_a_run_is_not_resumed_on_another_engine(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run("train", "digits/convnet-ss", "--out", "mine", *TINY)
    path = tmp_path / "mine" / "record.json"
    record = json.loads(path.read_text()) | {"backend": "keras", "engine": "jax"}
    path.write_text(json.dumps(record))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    resumed = ("train", "digits/convnet-ss", "--resume", "--backend", "keras", "--out", "mine")
    code, _, complaint = run(*resumed, *TINY)
    assert code == 2
    assert "same engine, but it has 'jax', not 'tensorflow'" in complaint


def test_the_check_of_pictures_is_shown_while_it_takes_long(monkeypatch: pytest.MonkeyPatch):
    bars = Progress(disable=True)
    watch = pictures_bar(bars, "checking")
    watch(1, 10)
    assert not bars.tasks[0].visible
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + 2)
    watch(2, 10)
    assert bars.tasks[0].visible
    watch(10, 10)
    assert not bars.tasks[0].visible


def test_a_signal_while_pictures_are_checked_ends_the_command_before_it_writes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_tree(tmp_path / "pictures")
    once = iter([signal.SIGTERM])

    def look(split: FileSplit, index: int) -> None:
        for number in once:
            signal.raise_signal(number)

    monkeypatch.setattr(FileSplit, "fault", look)
    code, _, complaint = run("train", "imagenette/resnet18-ss", "--data", "pictures")
    assert code == 143
    assert "Traceback" not in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_cache_is_written_on_after_a_signal_and_trained_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_tree(tmp_path / "pictures")
    once, decoded = iter([signal.SIGTERM]), FileSplit.picture

    def picture(split: FileSplit, index: int) -> Image.Image:
        for number in once:
            signal.raise_signal(number)
        return decoded(split, index)

    monkeypatch.setattr(FileSplit, "picture", picture)
    write = ("cache", "--data", "pictures", "--out", "copy", "--size", "20", "--workers", "0")
    code, _, complaint = run(*write)
    assert code == 143
    assert "Stopped. The same command goes on." in complaint
    assert len(list((tmp_path / "copy").glob("*.rgb"))) == 1
    for command in (write, ("cache", "--out", "copy", "--check")):
        code, output, complaint = run(*command)
        assert (code, complaint) == (0, "")
        assert "copy" in output
    assert len(list((tmp_path / "copy").glob("*.rgb"))) == 2
    small = ["--set", "epochs=1", "--set", "batch_size=6", "--set", "threads=1", "--workers", "0"]
    code, _, _ = run("train", "cifar10/resnet18-bp", "--data", "copy", "--out", "mine", *small)
    assert code == 0
    record = json.loads((tmp_path / "mine" / "record.json").read_text())
    assert record["data"]["cache"].startswith("shorter sides of 20 at most")


def test_overrides_are_in_the_record(run: Run, tmp_path: Path):
    run("train", "digits/convnet-ss", "--out", "mine", *TINY)
    record = json.loads((tmp_path / "mine" / "record.json").read_text())
    overrides = {"epochs": "1", "depth": "1", "width": "2", "batch_size": "300"}
    assert record["overrides"] == overrides
    assert record["recipe"]["depth"] == 1
    assert "train digits/convnet-ss --out mine" in record["sessions"][0]["command"]


def test_a_run_that_diverges_says_so_by_its_exit_code(run: Run):
    diverging = [*TINY, "--set", "lr=1e38", "--set", "epochs=3"]
    code, output, _ = run("train", "digits/convnet-bp", "--out", "mine", *diverging)
    assert code == 3
    assert "diverged" in output
    code, output, _ = run("report", "mine")
    assert code == 0
    assert "diverged: seed 0" in output


@pytest.mark.parametrize("command", [["train", "digits/convnet-ss"], ["reproduce", "digits"]])
def test_a_folder_that_cannot_be_written_is_one_message(
    run: Run, tmp_path: Path, command: list[str]
):
    (tmp_path / "file").write_text("not a folder")
    code, _, complaint = run(*command, "--out", str(tmp_path / "file" / "run"))
    assert code == 4
    assert str(tmp_path / "file") in complaint
    assert "Traceback" not in complaint


def test_reproduce_refuses_a_folder_that_holds_something_else(run: Run, tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("precious")
    code, _, complaint = run("reproduce", "digits", "--out", "thesis")
    assert code == 2
    assert "Received: out='thesis'" in complaint
    (tmp_path / "earlier").mkdir()
    mark = json.dumps({"tier": "digits", "overrides": {"lr": "1"}})
    (tmp_path / "earlier" / "reproduce.json").write_text(mark)
    code, _, complaint = run("reproduce", "digits", "--out", "earlier")
    assert code == 2
    assert "same tier and overrides" in complaint
    assert len(list((tmp_path / "earlier").iterdir())) == 1


def test_runs_that_cannot_be_compared_are_not_put_into_one_table(
    tmp_path: Path, train_linear: Callable[..., Record]
):
    train_linear(tmp_path / "a", setting="ss")
    train_linear(tmp_path / "b", setting="fa", momentum=0.5)
    with pytest.raises(SpecError, match=r"momentum: 0\.9 and 0\.5"):
        gather(find_runs([tmp_path]))
    with pytest.raises(SpecError, match="twice"):
        gather([*find_runs([tmp_path / "a"])] * 2)
