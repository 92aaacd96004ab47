"""COCO: boxes follow their pictures, and what is wrong is named before training begins."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask

from antiparallel.benchmarks.data.batches import Part
from antiparallel.benchmarks.data.coco import Coco, open_coco
from antiparallel.benchmarks.data.transforms import Preprocessing
from antiparallel.spec import SpecError

from .conftest import write_coco

SIZE = 160
CANVAS = Preprocessing(SIZE, SIZE, "flip")
LIST = "annotations/instances_train2017.json"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


def change(root: Path, edit: Callable[[dict[str, Any]], object], name: str = LIST) -> None:
    """Change a file of annotations."""
    content = json.loads((root / name).read_text())
    edit(content)
    (root / name).write_text(json.dumps(content))


def opened(root: Path, **settings: Any) -> Coco:
    return open_coco(root, CANVAS, **settings)


def batches(dataset: Coco, **settings: Any) -> list[Any]:
    chosen = {"seed": 0, "epoch": 0, "start": 0, "stop": 2, "batch_size": 2} | settings
    return list(dataset.train_batches(**chosen))


def test_pictures_are_whole_in_the_corner_of_a_canvas_and_boxes_are_where_objects_are(coco: Path):
    dataset = opened(coco)
    (batch,) = dataset.validation_batches(2)
    assert batch.images.shape == (2, SIZE, SIZE, 3)
    assert batch.labels.tolist() == [[0, 1], [0, -1]]
    # 120 x 90 becomes 160 x 120, and 80 x 110 becomes 116 x 160
    np.testing.assert_allclose(
        batch.boxes[0], np.array([[8.5, 10, 58.5, 70], [40, 30, 75.5, 85]]) * 4 / 3, rtol=1e-6
    )
    factors = np.array([116 / 80, 160 / 110] * 2)
    np.testing.assert_allclose(batch.boxes[1][0], [8.5, 10, 58.5, 70] * factors, rtol=1e-6)
    assert (batch.images[0, 120:] == batch.images[0, 120, 0]).all()
    assert abs(batch.images[0, 120, 0] - dataset.mean).max() <= 0.5
    picture = Image.open(coco / "val2017" / "000000000051.jpg").resize((160, 120), 2)
    assert (batch.images[0, :120] == np.asarray(picture)).all()


def test_rows_without_an_object_have_a_box_of_some_area_off_the_canvas(coco: Path):
    for batch in batches(opened(coco)):
        empty = batch.boxes[batch.labels < 0]
        assert (empty[:, 2:] > empty[:, :2]).all()
        assert (empty[:, 2:] < -SIZE).all()
        assert batch.labels.shape == (2, 2)


def test_flipped_pictures_have_flipped_boxes_and_chance_follows_seed_epoch_and_picture(coco: Path):
    dataset = opened(coco, evaluated_on="training")
    plain = {
        tuple(image[:, : SIZE // 2].ravel()[:9000:7]): (image, labels, boxes)
        for batch in dataset.validation_batches(4)
        for image, labels, boxes in zip(*batch, strict=True)
    }
    flips = []
    for epoch in range(4):
        for batch in batches(dataset, epoch=epoch):
            again = batches(dataset, epoch=epoch)
            assert any((batch.images == other.images).all() for other in again)
            for image, labels, boxes in zip(*batch, strict=True):
                key = tuple(image[:, : SIZE // 2].ravel()[:9000:7])
                flips.append(key not in plain)
                if key in plain:
                    assert (plain[key][2] == boxes).all()
                    continue
                width = next(
                    w
                    for w in (160, 116)
                    if any(
                        (np.flip(image[:, :w], 1) == whole[:, :w]).all()
                        for whole, *_ in plain.values()
                    )
                )
                (found,) = (
                    (their_labels, their_boxes)
                    for whole, their_labels, their_boxes in plain.values()
                    if (np.flip(image[:, :width], 1) == whole[:, :width]).all()
                )
                assert (found[0] == labels).all()
                real = labels >= 0
                mirrored = found[1][real][:, [2, 1, 0, 3]]
                mirrored[:, [0, 2]] = width - mirrored[:, [0, 2]]
                np.testing.assert_allclose(boxes[real], mirrored, atol=1e-4)
    assert 0 < sum(flips) < len(flips)


def test_processes_and_workers_see_the_same_objects(coco: Path):
    whole = batches(opened(coco))
    helped = opened(coco, workers=1)
    parts = [batches(opened(coco), part=Part(rank, 2)) for rank in (0, 1)]
    for number, (batch, other) in enumerate(zip(whole, batches(helped), strict=True)):
        for name in ("images", "labels", "boxes"):
            ours = getattr(batch, name)
            assert (getattr(other, name) == ours).all()
            joined = np.concatenate([getattr(part[number], name) for part in parts])
            assert (joined == ours).all()
    helped.close()


def test_categories_with_gaps_are_classes_in_the_order_of_their_ids(coco: Path):
    dataset = opened(coco)
    assert dataset.classes == 2
    rows = [[[0, 0, 80, 60, 0.9, 1.0]], []]
    (found,) = dataset.score(rows).detections
    assert (found["category_id"], found["image_id"]) == (18, 51)
    assert found["bbox"] == pytest.approx([0, 0, 60, 45])


def test_the_pictures_of_the_largest_objects_are_chosen(coco: Path):
    def shrink(content: dict[str, Any]) -> None:
        for row in content["annotations"]:
            if row["image_id"] in (1, 4):
                row["bbox"] = [5, 5, 4, 4]

    change(coco, shrink)
    dataset = opened(coco, training_pictures=2, evaluated_on="training")
    assert [picture.image for picture in dataset.shown().pictures] == [2, 3]
    assert dataset.train_size == 2
    assert dataset.describe()["validation"] == "the training pictures"


def crowd(content: dict[str, Any]) -> None:
    content["annotations"][0]["iscrowd"] = 1


def test_crowds_are_not_learnt(coco: Path):
    change(coco, crowd)
    dataset = opened(coco, evaluated_on="training")
    labels = np.concatenate([batch.labels for batch in dataset.validation_batches(4)])
    assert sorted(labels[labels >= 0].tolist()) == [0, 0, 0, 1, 1]
    assert "1 crowds" in dataset.describe()["left out of training"]
    assert sum(one.crowd for picture in dataset.shown().pictures for one in picture.objects) == 1


def test_training_pictures_without_an_object_are_left_out_and_validation_pictures_are_not(
    coco: Path,
):
    def clear(content: dict[str, Any]) -> None:
        first = content["images"][0]["id"]
        content["annotations"] = [r for r in content["annotations"] if r["image_id"] != first]

    change(coco, clear)
    change(coco, clear, "annotations/instances_val2017.json")
    dataset = opened(coco)
    assert dataset.train_size == 3
    assert "1 pictures without" in dataset.describe()["left out of training"]
    (batch,) = dataset.validation_batches(2)
    assert batch.labels.tolist() == [[-1, -1], [0, -1]]
    assert dataset.score([[], [[0, 0, 9, 9, 0.5, 0]]]).metrics["ap"] == 0


def test_boxes_are_cut_off_at_the_edge_and_those_without_area_are_not_learnt(coco: Path):
    def move(content: dict[str, Any]) -> None:
        rows = content["annotations"]
        rows[0]["bbox"] = [-10, 20, 30, 200]  # partly outside
        rows[1]["bbox"] = [10, 10, 0, 30]  # of no area
        rows[2]["bbox"] = [500, 10, 20, 30]  # outside
        rows[2]["image_id"] = rows[0]["image_id"]

    change(coco, move)
    dataset = opened(coco, evaluated_on="training")
    found = [
        (labels[labels >= 0].tolist(), boxes[labels >= 0].tolist())
        for batch in dataset.validation_batches(4)
        for labels, boxes in zip(batch.labels, batch.boxes, strict=True)
    ]
    assert found[0] == ([0], [pytest.approx([0, 20 * 4 / 3, 20 * 4 / 3, 120])])
    assert "2 boxes of which nothing lies" in dataset.describe()["left out of training"]


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
