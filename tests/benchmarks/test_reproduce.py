"""``antiparallel reproduce``: all runs, then a report; interrupted, it goes on."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from antiparallel.benchmarks.recipes import SETTINGS
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.benchmarks.stepper import engine_of, installed_backends
from antiparallel.spec import SpecError

Command = Callable[..., subprocess.Popen[str]]
TINY = ["--set", "epochs=1", "--set", "depth=2", "--set", "width=4"]
SMALL = ["--seeds", "2", "--backend", "torch", *TINY]
LONG = [
    "--seeds",
    "1",
    "--backend",
    "torch",
    "--set",
    "epochs=500",
    "--set",
    "depth=2",
    "--set",
    "width=4",
]


def finish(process: subprocess.Popen[str]) -> str:
    output, complaint = process.communicate()
    assert process.returncode == 0, complaint
    return output


def runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("runs/torch/*/seed-*/record.json"))


def wait_for_checkpoints(process: subprocess.Popen[str], folder: Path) -> None:
    while not list(folder.glob("runs/torch/*/seed-*/checkpoints/update-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def wait_until_free(folder: Path) -> None:
    """Return when no process holds a run of the folder any more."""
    for path in runs(folder):
        while True:
            try:
                with RunFolder(path).held():
                    break
            except SpecError:
                time.sleep(0.02)


class _Addresses(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href")]


def test_a_tier_is_reproduced_reported_and_not_run_twice(tmp_path: Path, command: Command):
    output = finish(command("reproduce", "digits", "--out", "all", *SMALL))
    folder = tmp_path / "all"
    assert len(runs(folder)) == 10
    assert {RunFolder(path).read_record().status for path in runs(folder)} == {"complete"}

    for shown in ("Sign-symmetry", "Feedback alignment", "undecided", "report.html", "runs"):
        assert shown in output
    report = json.loads((folder / "report" / "report.json").read_text())
    (experiment,) = report["experiments"]
    rows = {row["setting"]: row for row in experiment["settings"]}
    assert list(rows) == ["bp", "ss", "ss-lastbp", "fa", "fa-lastbp"]
    for setting, row in rows.items():
        finals = [
            100 * RunFolder(path).read_record().epochs[-1].validation["error"]
            for path in runs(folder)
            if path.parent.name == f"convnet-{setting}"
        ]
        assert row["validation_error_percent"]["n"] == 2
        assert row["validation_error_percent"]["mean"] == pytest.approx(sum(finals) / 2)
        assert f"{sum(finals) / 2:.2f} ± " in (folder / "report" / "report.md").read_text()
    assert experiment["provenance"]["seeds"] == [0, 1]
    assert "reproduce digits --out all" in experiment["provenance"]["commands"][0]
    assert len(experiment["claims"]) == 6

    page = _Addresses()
    page.feed((folder / "report" / "report.html").read_text())
    assert len(page.found) == 4
    assert all(address.startswith("data:image/png;base64,") for address in page.found)
    for picture in folder.glob("report/*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")

    before = {path: (path / "record.json").read_bytes() for path in runs(folder)}
    finish(command("reproduce", "digits", "--out", "all", *SMALL))
    assert {path: (path / "record.json").read_bytes() for path in runs(folder)} == before


@pytest.mark.skipif("keras" not in installed_backends(), reason="Keras is not installed")
def test_by_default_every_installed_backend_runs_and_both_are_compared(
    tmp_path: Path, command: Command
):
    output = finish(command("reproduce", "digits", "--seeds", "2", "--out", "both", *TINY))
    label = f"keras-{engine_of('keras')}"
    assert "within" in output
    folder = tmp_path / "both"
    records = [RunFolder(path.parent).read_record() for path in folder.rglob("record.json")]
    assert len(records) == 20
    assert {record.status for record in records} == {"complete"}
    report = json.loads((folder / "report" / "report.json").read_text())
    assert [experiment["backend"] for experiment in report["experiments"]] == ["torch", label]
    (comparison,) = report["comparisons"]
    assert comparison["backends"] == ["torch", label]
    assert [row["setting"] for row in comparison["settings"]] == list(SETTINGS)
    for row in comparison["settings"]:
        first, second = row["validation_error_percent"]
        assert row["difference_points"] == pytest.approx(second["mean"] - first["mean"])
        within = abs(row["difference_points"]) <= row["pooled_deviation"]
        assert row["agreement"] == ("within" if within else "outside")
    for page in ("report.md", "report.html"):
        assert "side by side" in (folder / "report" / page).read_text()
    assert (folder / "report" / f"digits-convnet-torch-and-{label}-comparison.png").is_file()


def test_another_seed_or_a_single_run_can_be_reported(tmp_path: Path, command: Command):
    finish(command("train", "digits/convnet-ss", "--seed", "9", "--out", "mine", *TINY))
    output = finish(command("report", "mine", "--out", "paper"))
    assert re.search(r"Sign-symmetry .* 1 ", output)
    assert (tmp_path / "paper" / "report.html").is_file()


@pytest.mark.parametrize("to_all", [True, False], ids=["ctrl-c", "parent only"])
def test_interrupted_it_saves_every_run_and_leaves_no_process(
    tmp_path: Path, command: Command, to_all: bool
):
    process = command("reproduce", "digits", "--out", "some", "--processes", "2", *LONG)
    wait_for_checkpoints(process, tmp_path / "some")
    if to_all:  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, complaint = process.communicate()
    assert process.returncode == 128 + signal.SIGINT, complaint
    assert "Stopped and saved" in complaint
    assert "Traceback" not in complaint
    for path in runs(tmp_path / "some"):
        assert RunFolder(path).read_record().status == "stopped"
        with RunFolder(path).held():
            pass


def test_interrupted_while_its_workers_start_it_ends_without_a_word_too_many(
    tmp_path: Path, command: Command
):
    process = command("reproduce", "digits", "--out", "some", "--processes", "2", *LONG)
    while not (tmp_path / "some" / "reproduce.json").exists():
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate()
    assert process.returncode == 128 + signal.SIGINT, complaint
    assert "Traceback" not in complaint
    wait_until_free(tmp_path / "some")


def test_killed_itself_its_workers_end(tmp_path: Path, command: Command):
    process = command("reproduce", "digits", "--out", "some", "--processes", "2", *LONG)
    wait_for_checkpoints(process, tmp_path / "some")
    process.kill()
    process.communicate()
    wait_until_free(tmp_path / "some")
