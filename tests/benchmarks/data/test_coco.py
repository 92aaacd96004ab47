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


def test_every_batch_has_rows_for_the_most_objects_of_any_picture(coco: Path):
    def add(content: dict[str, Any]) -> None:
        row = content["annotations"][0]
        content["annotations"] += [row | {"id": number} for number in range(3)]

    change(coco, add, "annotations/instances_val2017.json")
    dataset = opened(coco)
    shown = [*batches(dataset), *dataset.validation_batches(1)]
    assert {batch.labels.shape[1] for batch in shown} == {5}
    assert {batch.boxes.shape[1:] for batch in shown} == {(5, 4)}
    assert max((batch.labels >= 0).sum(axis=1).max() for batch in shown) == 5


def test_the_shorter_side_is_no_longer_than_asked_for(coco: Path):
    dataset = open_coco(coco, Preprocessing(SIZE, 45, "flip"))
    (batch,) = dataset.validation_batches(2)
    np.testing.assert_allclose(batch.boxes[0, 0], np.array([8.5, 10, 58.5, 70]) / 2, rtol=1e-6)
    assert (batch.images[0, 45:] == batch.images[0, -1, -1]).all()
    assert (batch.images[0, :, 60:] == batch.images[0, -1, -1]).all()


def test_of_a_picture_as_thin_as_a_line_a_line_is_left(coco: Path):
    def thin(content: dict[str, Any]) -> None:
        content["images"][0].update(width=1000, height=2, file_name="line.png")
        content["annotations"][0]["bbox"] = [500, 0, 500, 2]
        Image.new("RGB", (1000, 2), "white").save(coco / "val2017" / "line.png")

    change(coco, thin, "annotations/instances_val2017.json")
    (batch,) = opened(coco).validation_batches(2)
    assert batch.boxes[0, 0].tolist() == [80, 0, 160, 1]
    assert (batch.images[0, 0] == 255).all()
    assert (batch.images[0, 1:] == batch.images[0, -1, -1]).all()


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


def test_an_object_is_in_its_box_in_every_epoch(coco: Path):
    white = {1: (20, 12, 60, 48), 2: (8, 40, 40, 100), 3: (64, 4, 116, 88), 4: (0, 0, 36, 24)}

    def draw(content: dict[str, Any]) -> None:
        rows = {row["image_id"]: row for row in content["annotations"]}
        content["annotations"] = list(rows.values())
        for image in content["images"]:
            left, top, right, bottom = white[image["id"]]
            rows[image["id"]]["bbox"] = [left, top, right - left, bottom - top]
            pixels = np.zeros((image["height"], image["width"], 3), np.uint8)
            pixels[top:bottom, left:right] = 255
            image["file_name"] = f"{image['id']}.png"
            Image.fromarray(pixels).save(coco / "train2017" / image["file_name"])

    change(coco, draw)
    dataset = opened(coco)
    seen = set()
    for epoch in range(6):
        for batch in batches(dataset, epoch=epoch):
            for image, boxes in zip(batch.images, batch.boxes, strict=True):
                rows, columns = np.nonzero(image[:, :, 0] > 140)  # the ground has 124
                edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_allclose(boxes[0], edges, atol=1)  # half a pixel, and blur
                seen.add(tuple(edges))
    assert len(seen) == 2 * len(white)


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


def test_what_is_found_is_where_it_is_in_the_listed_picture(coco: Path):
    """120 x 90 is shown as 160 x 120, and 80 x 110 as 116 x 160."""
    dataset = opened(coco)
    rows = [[[40, 20, 80, 60, 0.9, 0], [120, 100, 170, 180, 0.25, 1]], [[29, 16, 58, 80, 0.5, 0]]]
    first, second, third = dataset.score(rows).detections
    assert first["bbox"] == pytest.approx([30, 15, 30, 30])
    assert second["bbox"] == pytest.approx([90, 75, 30, 15])  # cut off at 120 and 90
    assert third["bbox"] == pytest.approx([20, 11, 20, 44])
    assert [found["score"] for found in (first, second, third)] == [0.9, 0.25, 0.5]
    assert [found["image_id"] for found in (first, second, third)] == [51, 51, 52]
    assert [found["category_id"] for found in (first, second, third)] == [3, 18, 3]


def test_the_truth_of_all_pictures_has_an_average_precision_of_1(coco: Path):
    dataset = opened(coco)
    rows = [
        [
            [*box.tolist(), 0.5, label]
            for label, box in zip(labels, boxes, strict=True)
            if label >= 0
        ]
        for batch in dataset.validation_batches(1)
        for labels, boxes in zip(batch.labels.tolist(), batch.boxes, strict=True)
    ]
    assert dataset.score(rows).metrics["ap"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", range(6))
def test_what_a_diverged_network_finds_counts_for_nothing(coco: Path, value: float, place: int):
    bad = [0, 0, 80, 60, 0.9, 1.0]
    bad[place] = value
    assert opened(coco).score([[bad], []]).detections == []


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
        rows[3].update(bbox=[500, 10, 20, 30], iscrowd=1)  # counted among the crowds

    change(coco, move)
    dataset = opened(coco, evaluated_on="training")
    found = [
        (labels[labels >= 0].tolist(), boxes[labels >= 0].tolist())
        for batch in dataset.validation_batches(4)
        for labels, boxes in zip(batch.labels, batch.boxes, strict=True)
    ]
    assert found[0] == ([0], [pytest.approx([0, 20 * 4 / 3, 20 * 4 / 3, 120])])
    left_out = dataset.describe()["left out of training"]
    assert "2 boxes of which nothing lies in their picture, 1 crowds" in left_out


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
