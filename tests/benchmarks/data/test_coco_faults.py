"""COCO: what is wrong is named before training begins, or left out and counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiparallel.benchmarks.data.coco import open_coco
from antiparallel.benchmarks.data.transforms import Preprocessing
from antiparallel.spec import SpecError

from .conftest import LIST, SIZE, batches, change, opened, write_coco

mask = pytest.importorskip("pycocotools.mask")

FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an annotation's id twice": (
        lambda c: c["annotations"][1].update(id=c["annotations"][0]["id"]),
        r"annotation id once .* more than once \[100\]",
    ),
    "an image's id twice": (
        lambda c: c["images"][1].update(id=1),
        r"image id once .* more than once \[1\]",
    ),
    "an unknown category": (
        lambda c: c["annotations"][2].update(category_id=4),
        "category_id of a category for annotation 200 .*Received: 4",
    ),
    "an unknown image": (
        lambda c: c["annotations"][2].update(image_id=77),
        "image_id of an image for annotation 200 .*Received: 77",
    ),
    "a missing key": (
        lambda c: c["annotations"][2].pop("bbox"),
        "a key 'bbox' for annotation 200",
    ),
    "a missing list": (lambda c: c.pop("categories"), "Expected a list 'categories'"),
    "a negative width": (
        lambda c: c["annotations"][2].update(bbox=[1, 2, -3, 4]),
        r"the last two >= 0 for annotation 200 .*\[1, 2, -3, 4\]",
    ),
    "no number": (
        lambda c: c["annotations"][2].update(bbox=[1, float("nan"), 3, 4]),
        "all finite, the last two >= 0 for annotation 200",
    ),
    "text for a number": (
        lambda c: c["annotations"][2].update(bbox=["1", 2, 3, 4]),
        "all finite, the last two >= 0 for annotation 200",
    ),
    "a picture that is not there": (
        lambda c: c["images"][1].update(file_name="none.jpg"),
        "a file for every image .*train2017/none.jpg of image 2",
    ),
    "a picture in another folder": (
        lambda c: c["images"][1].update(file_name="../val2017/000000000051.jpg"),
        "a file for every image",
    ),
    "another size than listed": (
        lambda c: c["images"][1].update(width=81),
        "80 x 110 pixels, not 81 x 110 as listed",
    ),
    "a mask of another size": (
        lambda c: c["annotations"][2].update(segmentation={"size": [9, 9], "counts": [81]}),
        "run-length encoded mask .* for annotation 200",
    ),
    "runs longer than the picture": (
        lambda c: c["annotations"][2].update(segmentation={"size": [110, 80], "counts": [8800, 1]}),
        "counts of 8801 pixels, not 8800",
    ),
    "negative runs": (
        lambda c: c["annotations"][2].update(
            segmentation={"size": [110, 80], "counts": [-1, 8801]}
        ),
        "negative counts",
    ),
    "a text that ends within a number": (
        lambda c: c["annotations"][2].update(segmentation={"size": [110, 80], "counts": "PoT"}),
        "run-length encoded mask",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_annotations_is_named(coco: Path, fault: str):
    edit, named = FAULTS[fault]
    change(coco, edit)
    with pytest.raises(SpecError, match=named):
        opened(coco)


def test_masks_that_are_whole_are_accepted(coco: Path):
    outside = np.zeros((110, 80), np.uint8, order="F")
    outside[20:50, 10:30] = 1
    text = mask.encode(outside)["counts"].decode()
    runs = {"size": [110, 80], "counts": text}
    change(coco, lambda c: c["annotations"][2].update(segmentation=runs, iscrowd=1))
    assert opened(coco).train_size == 3


def test_truncated_json_is_named(coco: Path):
    path = coco / LIST
    path.write_text(path.read_text()[:-40])
    with pytest.raises(SpecError, match=r"Expected JSON\. Received: instances_train2017\.json"):
        opened(coco)


def test_a_folder_that_is_not_coco_s_is_refused(tmp_path: Path):
    with pytest.raises(SpecError, match=r"instances_train2017\.json .* Received: none"):
        opened(tmp_path)


def test_bad_pictures_leave_training_and_evaluation(coco: Path):
    (coco / "train2017" / "000000000002.jpg").write_bytes(b"no picture")
    with pytest.raises(SpecError, match=r"000000000002\.jpg: not a picture"):
        opened(coco)
    dataset = opened(coco, skip_bad_images=1, evaluated_on="training")
    assert [picture.image for picture in dataset.shown().pictures] == [1, 3, 4]
    assert "000000000002.jpg" in dataset.describe()["skipped"]
    assert len(dataset.score([[], [], []]).detections) == 0


def test_what_follows_a_bad_picture_keeps_its_own_objects(coco: Path):
    whole = list(opened(coco, evaluated_on="training").validation_batches(1))
    for name in ("train2017/000000000001.jpg", "val2017/000000000051.jpg"):
        (coco / name).write_bytes(b"no picture")
    dataset = opened(coco, skip_bad_images=2)
    (batch,) = dataset.validation_batches(2)
    assert batch.labels.tolist() == [[0, -1]]
    assert batch.boxes[0, 0] == pytest.approx([8.5 * 1.45, 160 / 11, 58.5 * 1.45, 1120 / 11])
    (found,) = dataset.score([[[0, 0, 9, 9, 0.5, 0]]]).detections
    assert found["image_id"] == 52
    left = opened(coco, skip_bad_images=2, evaluated_on="training")
    for ours, theirs in zip(left.validation_batches(1), whole[1:], strict=True):
        for name in ("images", "labels", "boxes"):
            assert (getattr(ours, name) == getattr(theirs, name)).all()
    for shown in batches(left, stop=3, batch_size=1):
        wide = np.ptp(shown.images[0, :, 130:], axis=(0, 1)).any()  # 160 x 120, not 116 x 160
        assert (shown.labels[0] >= 0).sum() == (2 if wide else 1)


def test_a_split_of_which_no_picture_can_be_read_is_refused(coco: Path):
    for path in (coco / "val2017").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(SpecError, match=r"and validation pictures\. Received: 4 and 0 that"):
        opened(coco, skip_bad_images=2)
    assert opened(coco, evaluated_on="training").train_size == 4


def test_training_pictures_without_any_object_are_refused(coco: Path):
    change(coco, lambda c: c["annotations"].clear())
    with pytest.raises(SpecError, match=r"with an object to learn, .*Received: 0 and 2 that"):
        opened(coco)


def test_splits_of_other_categories_are_refused(coco: Path):
    change(coco, lambda c: c["categories"][0].update(name="tree"))
    with pytest.raises(SpecError, match=r"same categories in both splits.*3, 'flower'"):
        opened(coco)


def test_a_missing_folder_is_named(coco: Path):
    (coco / "val2017").rename(coco / "validation")
    with pytest.raises(SpecError, match="Expected a folder val2017"):
        opened(coco)
    assert opened(coco, evaluated_on="training").train_size == 4


def test_a_folder_is_no_picture(coco: Path):
    (coco / "train2017" / "000000000002.jpg").unlink()
    (coco / "train2017" / "000000000002.jpg").mkdir()
    with pytest.raises(SpecError, match=r"a file for every image .*000000000002\.jpg of image 2"):
        opened(coco)


def test_only_whole_pictures_are_shown(coco: Path):
    with pytest.raises(SpecError, match=r"augmentation 'flip' for COCO\. Received: 'random-crop'"):
        open_coco(coco, Preprocessing(SIZE, SIZE, "random-crop"))


def test_annotations_are_part_of_the_fingerprint(coco: Path):
    before = opened(coco).describe()["fingerprint"]
    assert opened(coco).describe()["fingerprint"] == before
    change(coco, lambda c: c["annotations"][2].update(bbox=[1, 2, 3, 4.5]))
    assert opened(coco).describe()["fingerprint"] != before


def test_the_lists_of_2014_make_the_same_split(tmp_path: Path):
    root = write_coco(tmp_path / "coco", train=3, validation=3)
    for split in ("train", "val"):
        (root / f"{split}2017").rename(root / f"{split}2014")
        lists = root / "annotations"
        (lists / f"instances_{split}2017.json").rename(lists / f"instances_{split}2014.json")
    assert opened(root).train_size == 3
    content = json.loads((root / "annotations/instances_val2014.json").read_text())
    kept = {51}
    for name, chosen in (("valminusminival", {52, 53}), ("minival", kept)):
        part = content | {
            "images": [row for row in content["images"] if row["id"] in chosen],
            "annotations": [r for r in content["annotations"] if r["image_id"] in chosen],
        }
        for row in part["annotations"]:
            row["id"] += 10_000
        (root / f"annotations/instances_{name}2014.json").write_text(json.dumps(part))
    dataset = opened(root)
    assert dataset.train_size == 5
    assert [picture.image for picture in dataset.shown().pictures] == [51]
    minival = "annotations/instances_minival2014.json"
    change(root, lambda c: c["images"].append(content["images"][1]), minival)
    with pytest.raises(SpecError, match=r"every picture in one split\. Received: .*000052\.jpg"):
        opened(root)
