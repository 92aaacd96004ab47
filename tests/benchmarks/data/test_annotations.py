"""Annotations are read in one order, and what cannot be is named with its file and id."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiparallel.benchmarks.data.annotations import (
    AnnotationFile,
    Annotations,
    read_annotations,
)
from antiparallel.spec import SpecError

Content = dict[str, Any]


def content() -> Content:
    """Return what a file may hold, nothing in the order of its id."""
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", "width": 40, "height": 30},
            {"id": 4, "file_name": "a.jpg", "width": 20, "height": 50},
        ],
        "annotations": [
            row(7, image_id=9, category_id=18, bbox=[1, 2, 3, 4]),
            row(3, image_id=4, category_id=5, bbox=[1.5, 2, 30, 4], segmentation=[[1, 2, 3, 4]]),
            row(5, image_id=9, category_id=5, bbox=[0, 0, 9, 9], iscrowd=1),
        ],
        "categories": [{"id": 18, "name": "temple"}, {"id": 5, "name": "flower"}],
    }


def row(number: int, **values: Any) -> Content:
    return {"id": number, "area": 8.5, "iscrowd": 0, **values}


def written(path: Path, value: object) -> AnnotationFile:
    path.write_text(json.dumps(value))
    return AnnotationFile(path, "pictures")


def read(folder: Path, *values: object) -> Annotations:
    """Return what files hold together: part0.json and so on."""
    files = [written(folder / f"part{n}.json", value) for n, value in enumerate(values)]
    return read_annotations(files)


def test_categories_pictures_and_objects_are_in_the_order_of_ids(tmp_path: Path):
    found = read(tmp_path, content())
    assert list(found.categories.items()) == [(5, "flower"), (18, "temple")]
    assert found.pictures.tolist() == [(4, 20, 50), (9, 40, 30)]
    assert found.names == ("pictures/a.jpg", "pictures/b.jpg")
    # of one picture as they are listed
    assert found.objects["id"].tolist() == [3, 7, 5]
    assert found.objects["place"].tolist() == [0, 1, 1]
    assert found.objects["label"].tolist() == [0, 1, 0]
    assert found.objects["crowd"].tolist() == [False, False, True]
    assert found.objects["box"].tolist() == [[1.5, 2, 30, 4], [1, 2, 3, 4], [0, 0, 9, 9]]
    assert found.corners[0].tolist() == [1.5, 2, 20, 6]
    assert found.learnable.tolist() == [True, True, False]


def test_some_of_the_pictures_keep_what_is_in_them(tmp_path: Path):
    found = read(tmp_path, content()).of(np.array([1]))
    assert found.names == ("pictures/b.jpg",)
    assert found.objects["id"].tolist() == [7, 5]
    assert found.objects["place"].tolist() == [0, 0]
    assert found.corners.tolist() == [[1, 2, 4, 6], [0, 0, 9, 9]]


def test_files_are_read_as_one(tmp_path: Path):
    other = content()
    other["images"] = [{"id": 6, "file_name": "c.jpg", "width": 10, "height": 10}]
    other["annotations"] = [row(1, image_id=6, category_id=5, bbox=[1, 1, 2, 2])]
    other["categories"].reverse()
    found = read(tmp_path, content(), other)
    assert found.names == ("pictures/a.jpg", "pictures/c.jpg", "pictures/b.jpg")
    assert found.objects["id"].tolist() == [3, 1, 7, 5]
    assert found.objects["place"].tolist() == [0, 1, 2, 2]


def test_files_with_other_categories_or_the_same_ids_are_refused(tmp_path: Path):
    other = content() | {"images": [], "annotations": []}
    other["categories"][0]["name"] = "church"
    with pytest.raises(SpecError, match=r"same categories in part0\.json, part1\.json"):
        read(tmp_path, content(), other)
    with pytest.raises(SpecError, match=r"image id once in part0.json, part1.json.*\[4, 9\]"):
        read(tmp_path, content(), content())


def test_a_file_without_pictures_is_read(tmp_path: Path):
    found = read(tmp_path, content() | {"images": [], "annotations": []})
    assert found.names == ()
    assert len(found.objects) == len(found.corners) == len(found.learnable) == 0


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["images"][0].update(width=41),
        lambda c: c["images"][0].update(file_name="d.jpg"),
        lambda c: c["categories"][0].update(name="church"),
        lambda c: c["annotations"][0].update(iscrowd=1),
        lambda c: c["annotations"][0].update(area=8.25),
    ],
)
def test_a_fingerprint_is_of_all_that_is_used(tmp_path: Path, edit: Callable[[Content], object]):
    changed = content()
    edit(changed)
    assert read(tmp_path, content()).fingerprint() == read(tmp_path, content()).fingerprint()
    assert read(tmp_path, changed).fingerprint() != read(tmp_path, content()).fingerprint()


def test_polygons_are_never_all_in_memory(tmp_path: Path):
    value = content()
    value["annotations"] = [
        row(n, image_id=4, category_id=5, bbox=[1, 1, 2, 2], segmentation=[[0.5 + n] * 2_000])
        for n in range(50)
    ]
    file = written(tmp_path / "part.json", value)
    tracemalloc.start()
    read_annotations([file])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The file as bytes and as text; each of its numbers, of 6 bytes, would be 32 more.
    assert most < 3 * file.path.stat().st_size


VALUES: dict[str, tuple[Callable[[Content], object], str]] = {
    "a category's id twice": (
        lambda c: c["categories"][1].update(id=18),
        "an id that is there once for category 18 in part0.json",
    ),
    "no category": (lambda c: c["categories"].clear(), "Expected categories in part0.json"),
    "a category without a name": (
        lambda c: c["categories"][1].pop("name"),
        "a key 'name' for category 5",
    ),
    "a name that is no text": (
        lambda c: c["categories"][1].update(name=5),
        "a text for category 5",
    ),
    "an object without an id": (
        lambda c: c["annotations"][1].pop("id"),
        "a key 'id' for annotation number 1 of the list in part0.json",
    ),
    "an object that is none": (
        lambda c: c["annotations"].append([1, 2]),
        r"a JSON object for every annotation in part0.json. Received: \[1, 2\], number 3",
    ),
    "a name of a file that no file has": (
        lambda c: c["images"][1].update(file_name="a\0.jpg"),
        "a text for image 4",
    ),
    "half a character": (
        lambda c: c["images"][1].update(file_name="\ud800.jpg"),
        "a text for image 4",
    ),
    "an id that doubles do not tell from the next": (
        lambda c: c["images"][1].update(id=2**53),
        f"whole number from 0 to {2**53 - 1} for image {2**53}",
    ),
    "an id below 0": (lambda c: c["images"][1].update(id=-1), "whole number from 0 .*image -1"),
    "an id that is no number": (
        lambda c: c["images"][1].update(id="4"),
        "whole number from 0 .*image number 1 of the list .*'4'",
    ),
    "a width of nothing": (lambda c: c["images"][1].update(width=0), "from 1 .*image 4 .*'width'"),
    "a height that no JPEG has": (
        lambda c: c["images"][1].update(height=65_536),
        "from 1 to 65535 for image 4 .*'height': 65536",
    ),
    "a height that is a truth value": (
        lambda c: c["images"][1].update(height=True),
        "from 1 to 65535 for image 4 .*'height': True",
    ),
    "a box of three": (
        lambda c: c["annotations"][1].update(bbox=[1, 2, 3]),
        "left, top, width and height, .*annotation 3",
    ),
    "a box that is none": (
        lambda c: c["annotations"][1].update(bbox=None),
        "left, top, width and height, .*annotation 3",
    ),
    "a box that ends nowhere": (
        lambda c: c["annotations"][1].update(bbox=[0, 0, float("inf"), 3]),
        "left, top, width and height, all finite.*annotation 3",
    ),
    "a box beyond all pictures": (
        lambda c: c["annotations"][1].update(bbox=[1e308, 0, 1e308, 3]),
        "left, top, width and height, all finite.*annotation 3",
    ),
    "an area below 0": (
        lambda c: c["annotations"][1].update(area=-1),
        "a finite area >= 0 for annotation 3",
    ),
    "an area that is no number": (
        lambda c: c["annotations"][1].update(area=float("nan")),
        "a finite area >= 0 for annotation 3",
    ),
    "an area that is a text": (
        lambda c: c["annotations"][1].update(area="8"),
        "a finite area >= 0 for annotation 3",
    ),
    "half a crowd": (
        lambda c: c["annotations"][1].update(iscrowd=2),
        "from 0 to 1 for annotation 3 .*'iscrowd': 2",
    ),
    "an object's id twice": (
        lambda c: c["annotations"][1].update(id=7),
        r"annotation id once in part0.json. Received: more than once \[7\]",
    ),
    "no list": (lambda c: c.update(images={}), "a list 'images' in part0.json"),
}


@pytest.mark.parametrize("fault", VALUES)
def test_a_value_that_cannot_be_is_named(tmp_path: Path, fault: str):
    edit, named = VALUES[fault]
    value = content()
    edit(value)
    with pytest.raises(SpecError, match=named):
        read(tmp_path, value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "Expected JSON.*part.json"),
        ("\ufeff[", "Expected JSON.*part.json"),
        ("[]", "a list 'images' in part.json"),
        ("null", "a list 'images' in part.json"),
        ("[" * 200_000, "Expected JSON.*part.json"),
        ('{"images": [' + "9" * 5_000 + "]}", "Expected JSON.*part.json"),
    ],
    ids=["empty", "truncated", "a list", "nothing", "deep", "a long number"],
)
def test_a_file_of_something_else_is_named(tmp_path: Path, text: str, named: str):
    (tmp_path / "part.json").write_text(text)
    with pytest.raises(SpecError, match=named):
        read_annotations([AnnotationFile(tmp_path / "part.json", "pictures")])


def test_bytes_that_are_no_text_are_named(tmp_path: Path):
    (tmp_path / "part.json").write_bytes(b'{"images": ["\xff"]}')
    with pytest.raises(SpecError, match=r"Expected JSON.*part\.json"):
        read_annotations([AnnotationFile(tmp_path / "part.json", "pictures")])


def test_a_file_that_is_not_there_or_is_a_folder_is_named(tmp_path: Path):
    (tmp_path / "part.json").mkdir()
    for name in ("none.json", "part.json"):
        with pytest.raises(SpecError, match=f"COCO's annotations. Received: {name}"):
            read_annotations([AnnotationFile(tmp_path / name, "pictures")])
