"""COCO: boxes follow their pictures, and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from antiparallel.benchmarks.data.batches import Part
from antiparallel.benchmarks.data.coco import open_coco
from antiparallel.benchmarks.data.transforms import Preprocessing

from .conftest import SIZE, batches, change, opened

EPS = float(np.finfo(np.float32).eps)  # boxes are rounded to float32 once


def test_pictures_are_whole_in_the_corner_of_a_canvas_and_boxes_are_where_objects_are(coco: Path):
    dataset = opened(coco)
    (batch,) = dataset.validation_batches(2)
    assert batch.images.shape == (2, SIZE, SIZE, 3)
    assert batch.labels.tolist() == [[0, 1], [0, -1]]
    # 120 x 90 becomes 160 x 120, and 80 x 110 becomes 116 x 160
    np.testing.assert_allclose(
        batch.boxes[0], np.array([[8.5, 10, 58.5, 70], [40, 30, 75.5, 85]]) * 4 / 3, rtol=EPS
    )
    factors = np.array([116 / 80, 160 / 110] * 2)
    np.testing.assert_allclose(batch.boxes[1][0], [8.5, 10, 58.5, 70] * factors, rtol=EPS)
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
    np.testing.assert_allclose(batch.boxes[0, 0], np.array([8.5, 10, 58.5, 70]) / 2, rtol=EPS)
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
