"""A data set on disk is understood whole, or refused before a run begins."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from antiparallel.benchmarks.data.images import open_images
from antiparallel.benchmarks.data.layouts import find_splits
from antiparallel.benchmarks.data.transforms import Preprocessing
from antiparallel.spec import SpecError

from .conftest import zipped


def test_classes_and_pictures_are_torchvision_s(tree: Path):
    (tree / "train" / "flower" / "notes.txt").write_text("no picture")
    (tree / "train" / ".hidden").mkdir()
    shutil.rmtree(tree / "train" / ".hidden")
    splits = find_splits(tree)
    theirs = ImageFolder(tree / "train")
    assert list(splits.classes) == theirs.classes
    assert [str(tree / "train" / name) for name in splits.train.names] == [
        p for p, _ in theirs.samples
    ]
    assert splits.train.labels.tolist() == theirs.targets


def test_a_zip_file_is_the_folder_that_it_holds(tree: Path):
    folders = find_splits(tree)
    contents = [folders.train.read(index) for index in range(18)]
    zipped(tree)
    zips = find_splits(tree)
    assert zips.classes == folders.classes
    assert zips.train.names == folders.train.names
    assert (zips.validation.labels == folders.validation.labels).all()
    assert [zips.train.read(index) for index in range(18)] == contents
    assert zips.fingerprint() == folders.fingerprint()


def test_the_fingerprint_tells_other_pictures_apart(tree: Path):
    before = find_splits(tree).fingerprint()
    (tree / "val" / "temple" / "000.JPEG").rename(tree / "val" / "flower" / "999.JPEG")
    moved = find_splits(tree).fingerprint()
    (tree / "val" / "flower" / "000.JPEG").write_bytes(b"another picture")
    assert len({before, moved, find_splits(tree).fingerprint()}) == 3


def test_a_damaged_member_of_a_zip_file_is_named(tree: Path):
    zipped(tree)
    content = bytearray((tree / "train.zip").read_bytes())
    place = content.index(b"temple/004.JPEG") + 40
    content[place : place + 60] = bytes(60)
    (tree / "train.zip").write_bytes(bytes(content))
    with pytest.raises(SpecError, match=r"Received: train\.zip/temple/004\.JPEG: BadZipFile"):
        open_images(tree, Preprocessing(16, 20, "random-crop"))


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_the_validation_split_has_any_of_its_usual_names(tree: Path, name: str):
    (tree / "val").rename(tree / name)
    assert len(find_splits(tree).validation.names) == 8


def remove(path: Path) -> None:
    shutil.rmtree(path)


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda t: remove(t), "Received: '.*pictures'"),
        (lambda t: remove(t / "train"), "Expected one of train as .*with val"),
        (lambda t: remove(t / "val"), "Expected one of val, validation, test .*with train"),
        (lambda t: (t / "val" / "temple").rename(t / "val" / "tower"), "only in .*temple.*tower"),
        (lambda t: (t / "train" / "nothing").mkdir(), "Received: none of nothing in train"),
        (lambda t: [remove(p) for p in (t / "val").iterdir()], "Received: none in val"),
    ],
)
def test_what_is_no_data_set_is_refused(tree: Path, change, received: str):
    change(tree)
    with pytest.raises(SpecError, match=received):
        find_splits(tree)


def test_a_class_s_number_is_its_place_in_the_alphabet(tree: Path):
    splits = find_splits(tree)
    of = {
        name.partition("/")[0]: label
        for name, label in zip(splits.train.names, splits.train.labels.tolist(), strict=True)
    }
    assert of == {"flower": 0, "temple": 1}
    assert splits.train.labels.dtype == np.int64
