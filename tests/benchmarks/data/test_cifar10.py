"""CIFAR-10's pickles are read, and run nothing."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from antiparallel.benchmarks.data.cifar10 import FOLDER, read_cifar10
from antiparallel.benchmarks.data.images import open_images
from antiparallel.benchmarks.data.transforms import Preprocessing
from antiparallel.spec import SpecError

FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
CLASSES = [f"class {number}" for number in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write the authors' seven files with four pictures each."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in FILES:
        data = generator.integers(0, 256, (4, 3072), dtype=np.uint8)
        labels = generator.integers(0, 10, 4).tolist()
        write(folder, name, {"data": data, "labels": labels})
    write(folder, "batches.meta", {"label_names": CLASSES})
    return folder


def write(folder: Path, name: str, content: object) -> None:
    # Protocol 2 is the authors'.
    (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def changed(folder: Path, **changes: object) -> None:
    content = pickle.loads((folder / "data_batch_3").read_bytes())
    write(folder, "data_batch_3", content | changes)


@pytest.mark.parametrize("inside", [False, True])
def test_pictures_labels_and_names_are_torchvision_s(
    folder: Path, inside: bool, monkeypatch: pytest.MonkeyPatch
):
    # Its checksums are those of the real files.
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    found = read_cifar10(folder if inside else folder.parent)
    for ours, train in ((found.train, True), (found.validation, False)):
        theirs = CIFAR10(folder.parent, train=train)
        assert ours.images.dtype == np.uint8
        assert (ours.images == theirs.data).all()
        assert ours.labels.tolist() == theirs.targets
    assert list(found.classes) == theirs.classes


@pytest.mark.parametrize("workers", [0, 1])
def test_it_is_a_data_set_like_any_other(folder: Path, workers: int):
    found = read_cifar10(folder)
    images = open_images(folder.parent, Preprocessing(32, 32, "padded-crop"), workers=workers)
    (batch,) = images.validation_batches(4)
    assert (batch.images == found.validation.images).all()
    assert (batch.labels == found.validation.labels).all()
    assert (images.train_size, images.classes) == (20, 10)
    shown = list(images.train_batches(seed=0, epoch=0, start=0, stop=5, batch_size=4))
    labels = np.concatenate([batch.labels for batch in shown])
    assert sorted(labels) == sorted(found.train.labels)
    images.close()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_later_pickle_protocols_are_read_too(folder: Path, protocol: int):
    content = pickle.loads((folder / "test_batch").read_bytes())
    before = read_cifar10(folder).validation
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=protocol))
    assert (read_cifar10(folder).validation.images == before.images).all()


def test_text_that_python_2_wrote_is_read_as_bytes(folder: Path):
    before = read_cifar10(folder).train
    # SHORT_BINSTRING and BINSTRING, which no Python 3 writes.
    pixels = bytes(range(256)) * 12
    state = b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89T"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state += len(pixels).to_bytes(4, "little") + pixels + b"tb"
    (folder / "data_batch_1").write_bytes(
        b"\x80\x02}(U\x04data" + array + state + b"U\x06labels]K\x07au."
    )
    after = read_cifar10(folder).train
    assert after.labels.tolist() == [7, *before.labels[4:].tolist()]
    assert after.images[0].transpose(2, 0, 1).tobytes() == pixels


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", [*FILES, "batches.meta"])
def test_a_malicious_pickle_runs_nothing(folder: Path, tmp_path: Path, name: str):
    write(folder, name, {"data": Attack(tmp_path / "harm")})
    with pytest.raises(SpecError, match=rf"Received: {name}: .* asks for \w+\.mkdir"):
        read_cifar10(folder)
    assert not (tmp_path / "harm").exists()
    pickle.loads((folder / name).read_bytes())
    assert (tmp_path / "harm").exists()  # so it would have


def test_a_pickle_that_asks_for_unreasonable_memory_is_refused(folder: Path):
    (folder / "test_batch").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(SpecError, match=r"test_batch: .*unreasonable memory"):
        read_cifar10(folder)


def test_an_enormous_file_is_refused_unread(folder: Path):
    os.truncate(folder / "test_batch", 2**36)  # sparse
    with pytest.raises(SpecError, match=r"test_batch: .*larger than"):
        read_cifar10(folder)


@pytest.mark.parametrize("name", [*FILES, "batches.meta"])
def test_a_missing_or_truncated_file_is_named(folder: Path, name: str):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-20])
    with pytest.raises(SpecError, match=f"Received: {name}: "):
        read_cifar10(folder)
    (folder / name).unlink()
    with pytest.raises(SpecError, match=f"Received: {name}: FileNotFoundError"):
        read_cifar10(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1, 2]}, r"Expected 3 pictures .*Received: shape \(4, 3072\)"),
        ({"labels": [0, 1, 2, 10]}, "labels from 0 to 9 in data_batch_3"),
        ({"labels": None}, "labels from 0 to 9 in data_batch_3"),
        ({"data": np.zeros((4, 3072), np.int16)}, r"3072 bytes in data_batch_3"),
        ({"data": np.zeros((4, 3072), np.uint8, order="F")}, r"3072 bytes in data_batch_3"),
        ({"data": [1, 2]}, "Received: list"),
    ],
)
def test_a_file_without_such_pictures_is_refused(folder: Path, changes: dict, message: str):
    changed(folder, **changes)
    with pytest.raises(SpecError, match=message):
        read_cifar10(folder)


def test_a_file_that_holds_no_dictionary_is_named(folder: Path):
    write(folder, "data_batch_2", [1])
    with pytest.raises(SpecError, match=r"dictionary in CIFAR-10's data_batch_2. Received: list"):
        read_cifar10(folder)


def test_class_names_are_ten(folder: Path):
    write(folder, "batches.meta", {"label_names": CLASSES[:9]})
    with pytest.raises(SpecError, match=r"10 class names in batches.meta"):
        read_cifar10(folder)
