"""Files made to do harm: nothing of theirs runs, memory stays bounded, and they are named."""

import base64
import io
import json
import marshal
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from antiparallel.benchmarks.data.cifar10 import FOLDER
from antiparallel.benchmarks.files import LARGEST_JSON
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.run_folder import RunFolder

from .data.conftest import write_tree, zipped

BOMB = 2**29
Give = Callable[[list[tuple[str, Path]]], tuple[list[str], int]]


class Evil:
    """Something that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.mark), 0o700)


def archive(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, member in members.items():
            made.writestr(name, member)
    return content.getvalue()


def bomb(name: str) -> bytes:
    """Return a zip file of half a MiB whose member has 512."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
        made.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(64):
            member.write(bytes(BOMB // 64))
    return content.getvalue()


def keras_lambda(mark: Path) -> bytes:
    """Return a ``.keras`` file whose Lambda layer leaves a mark when it is made."""
    code = compile(f"__import__('os').mkdir({str(mark)!r})", "lambda", "eval")
    packed = base64.b64encode(marshal.dumps(code)).decode()
    function = {"class_name": "__lambda__", "config": {"code": packed}}
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"function": function}}
    config = {"class_name": "Sequential", "config": {"layers": [layer]}}
    return archive(**{"metadata.json": b"{}", "config.json": json.dumps(config).encode()})


@pytest.fixture(scope="module")
def payloads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return what is given to every reader; what runs leaves ``mark`` behind."""
    mark = tmp_path_factory.getbasetemp() / "mark"
    evil = pickle.dumps(Evil(mark), protocol=2)
    lies = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    return {
        "pickle": evil,
        "pth": archive(**{"archive/data.pkl": evil, "archive/version": b"3\n"}),
        "keras": keras_lambda(mark),
        "npz bomb": bomb("weights.npy"),
        "safetensors with a header of 2**60 bytes": struct.pack("<Q", 2**60) + b"{}",
        "safetensors of 2**42 bytes": struct.pack("<Q", len(lies)) + lies.encode(),
        "nested JSON": b"[" * 10**6,
        "JSON number": b"1" * 10**6,
        "JSON with many names": b'{"recipe":{"overrides":{%s}}}'
        % b",".join(b'"%07d":""' % number for number in range(10**5)),
        "huge JSON": b"[" + b"0," * (LARGEST_JSON // 2) + b"0]",
    }


@pytest.fixture
def mark(payloads: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.getbasetemp() / "mark"
    pickle.loads(payloads["pickle"])
    assert path.is_dir()  # so that what runs would be seen
    path.rmdir()
    return path


@pytest.fixture
def good(tmp_path: Path, train_linear: Callable[..., Record]) -> Path:
    train_linear(tmp_path / "good")
    return tmp_path / "good"


@pytest.fixture
def give(good: Path, mark: Path) -> Give:
    """Let readers have paths, in another process; return their answers and the memory it took."""

    def ask(cases: list[tuple[str, Path]]) -> tuple[list[str], int]:
        driver = Path(__file__).with_name("malice_driver.py")
        asked = json.dumps([(reader, str(path)) for reader, path in cases])
        answer = subprocess.run(
            [sys.executable, driver, good, asked], capture_output=True, text=True, timeout=100
        )
        assert answer.returncode == 0, answer.stderr
        assert not mark.exists()
        found = json.loads(answer.stdout)
        return found["answers"], found["growth"]

    return ask


def replaced(folder: Path, copy: Path, name: str, content: bytes) -> Path:
    """Copy a folder with other content in one file's place."""
    shutil.copytree(folder, copy)
    (copy / name).write_bytes(content)
    return copy


def require_refusals(cases: list[tuple[str, Path, str]], give: Give) -> None:
    answers, growth = give([(reader, path) for reader, path, _ in cases])
    for (reader, path, name), answer in zip(cases, answers, strict=True):
        assert answer.startswith("refused: "), (reader, path.name)
        assert name in answer
        assert len(answer) < 1000
    assert growth < BOMB / 2


def test_none_is_taken_for_a_part_of_a_run(
    tmp_path: Path, good: Path, payloads: dict[str, bytes], give: Give
):
    newest = sorted((good / "checkpoints").iterdir())[-1].relative_to(good)
    readers = {
        "record.json": ("record", "report", "compare"),
        str(newest / "state.safetensors"): ("resume", "compare"),
        str(newest / "position.json"): ("resume", "compare"),
        "losses/epoch-0000.json": ("compare",),
    }
    cases = []
    for kind, content in payloads.items():
        for name in readers:
            path = tmp_path / f"{kind} as {Path(name).name}"
            replaced(good, path, name, content)
            cases += [(reader, path, Path(name).name) for reader in readers[name]]
    require_refusals(cases, give)


def test_none_is_taken_for_a_checkpoint_whose_checksum_is_right(
    tmp_path: Path, good: Path, payloads: dict[str, bytes], give: Give, monkeypatch
):
    checkpoint = RunFolder(good).load()
    cases = []
    for kind in ("pickle", "pth", "keras", "npz bomb", *(k for k in payloads if "safe" in k)):
        path = tmp_path / f"signed {kind}"
        shutil.copytree(good, path)
        with monkeypatch.context() as patch:
            patch.setattr(
                "antiparallel.benchmarks.checkpoint.save_tensors", lambda _, k=kind: payloads[k]
            )
            patch.setattr("antiparallel.benchmarks.checkpoint._read", lambda _: checkpoint)
            RunFolder(path).save(checkpoint)
        cases.append(("resume", path, "state.safetensors: no safetensors"))
    require_refusals(cases, give)


def test_none_is_taken_for_pictures_or_for_a_tier(
    tmp_path: Path, payloads: dict[str, bytes], give: Give
):
    cases = []
    tree = write_tree(tmp_path / "tree", train=2, validation=1)
    for kind, content in payloads.items():
        name = "train/flower/001.JPEG"
        path = replaced(tree, tmp_path / f"{kind} as a picture", name, content)
        cases.append(("pictures", path, name))
        packed = replaced(tree, tmp_path / f"{kind} in a zip", name, content)
        zipped(packed)
        cases.append(("pictures", packed, name.replace("train", "train.zip")))
        (cifar10 := tmp_path / f"{kind} as CIFAR-10" / FOLDER).mkdir(parents=True)
        (cifar10 / "data_batch_1").write_bytes(content)
        cases.append(("cifar10", cifar10, "data_batch_1"))
        (tier := tmp_path / f"{kind} as a tier").mkdir()
        (tier / "reproduce.json").write_bytes(content)
        cases.append(("reproduce", tier, "" if "huge" in kind else "reproduce.json"))
        (cache := tmp_path / f"{kind} as a cache").mkdir()
        (cache / "cache.json").write_bytes(content)
        cases.append(("pictures", cache, "cache.json"))
    unpacked = write_tree(tmp_path / "bomb", train=2, validation=1)
    shutil.rmtree(unpacked / "train")
    (unpacked / "train.zip").write_bytes(bomb("flower/001.JPEG"))
    cases.append(("pictures", unpacked, ""))
    require_refusals(cases, give)


def test_a_file_that_never_ends_is_not_read(tmp_path: Path, good: Path, give: Give):
    (newest,) = sorted((good / "checkpoints").iterdir())[-1:]
    cases = []
    for name in ("record.json", f"checkpoints/{newest.name}/position.json"):
        for kind in ("device", "sparse"):
            path = tmp_path / f"{kind} {Path(name).name}"
            shutil.copytree(good, path)
            (path / name).unlink()
            if kind == "device":
                (path / name).symlink_to("/dev/zero")
            else:
                with (path / name).open("wb") as file:
                    file.truncate(64 * BOMB)
            cases.append(("compare", path, ""))
    require_refusals(cases, give)
