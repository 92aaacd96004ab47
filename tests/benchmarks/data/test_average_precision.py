"""Average precision is COCO's: pycocotools finds the same."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from antiparallel.benchmarks.data.annotations import OBJECT, PICTURE, Annotations
from antiparallel.benchmarks.data.average_precision import METRICS, average_precision

PICTURES, CATEGORIES = 6, {3: "flower", 7: "temple", 12: "tree", 90: "nothing"}


def truth(seed: int) -> Annotations:
    """Return objects of all sizes in three of four categories, some of them crowds."""
    chance = np.random.default_rng(seed)
    pictures = np.array([(10 * n + 4, 640, 480) for n in range(PICTURES)], PICTURE)
    rows = []
    for number in range(40):
        side = chance.choice([12, 60, 200])
        box = [*chance.uniform(0, 250, 2), *chance.uniform(0.5, 1.0, 2) * side]
        area = box[2] * box[3] * chance.uniform(0.4, 1)  # of the mask, which is smaller
        rows.append(
            (number + 1, chance.integers(5), chance.integers(3), box, area, number % 9 == 0)
        )
    objects = np.array(rows, OBJECT)
    names = tuple(f"val2017/{n}.jpg" for n in range(PICTURES))
    return Annotations(CATEGORIES, pictures, names, objects[np.argsort(objects["place"])])


def detections(annotations: Annotations, seed: int) -> list[dict[str, Any]]:
    """Return boxes near the objects, boxes elsewhere, and equal scores."""
    chance = np.random.default_rng(seed + 1000)
    numbers = list(CATEGORIES)
    found = []
    for one in annotations.objects:
        for _ in range(chance.integers(3)):
            box = one["box"] + chance.normal(0, 0.08, 4) * np.tile(one["box"][2:], 2)
            label = one["label"] if chance.random() < 0.8 else chance.integers(4)
            found.append((one["place"], label, box))
    for _ in range(15):
        box = [*chance.uniform(0, 300, 2), *chance.uniform(5, 150, 2)]
        found.append((chance.integers(PICTURES), chance.integers(4), np.array(box)))
    return [
        {
            "image_id": int(annotations.pictures["id"][place]),
            "category_id": numbers[label],
            "bbox": box.tolist(),
            "score": float(np.round(chance.uniform(0.05, 1), 1)),
        }
        for place, label, box in found
    ]


def by_pycocotools(annotations: Annotations, found: list[dict[str, Any]]) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": int(n)} for n in annotations.pictures["id"]],
            "categories": [{"id": n, "name": name} for n, name in CATEGORIES.items()],
            "annotations": [
                {
                    "id": int(one["id"]),
                    "image_id": int(annotations.pictures["id"][one["place"]]),
                    "category_id": list(CATEGORIES)[one["label"]],
                    "bbox": one["box"].tolist(),
                    "area": float(one["area"]),
                    "iscrowd": int(one["crowd"]),
                }
                for one in annotations.objects
            ],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(row) for row in found]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, evaluation.stats[:6], strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_it_is_pycocotools_to_1e_12(seed: int):
    annotations = truth(seed)
    found = detections(annotations, seed)
    ours, theirs = average_precision(annotations, found), by_pycocotools(annotations, found)
    assert 0 < ours["ap"] < ours["ap50"] < 1
    for name in METRICS:
        assert ours[name] == pytest.approx(theirs[name], rel=0, abs=1e-12), name


def test_the_truth_itself_is_perfect_and_nothing_is_worth_nothing():
    annotations = truth(0)
    exact = [
        {
            "image_id": int(annotations.pictures["id"][one["place"]]),
            "category_id": list(CATEGORIES)[one["label"]],
            "bbox": one["box"].tolist(),
            "score": 0.9,
        }
        for one in annotations.objects
        if not one["crowd"]
    ]
    assert average_precision(annotations, exact)["ap"] == pytest.approx(1, abs=1e-12)
    assert average_precision(annotations, [])["ap"] == 0


def test_a_size_of_which_there_is_no_object_has_no_average_precision():
    annotations = truth(1)
    large = annotations.objects["area"] > 96**2
    annotations.objects["area"][large] = 50.0**2
    found = average_precision(annotations, detections(annotations, 1))
    assert np.isnan(found["ap_large"])
    assert found["ap_medium"] > 0


def test_average_precision_leaves_what_it_is_given_as_it_was():
    annotations = truth(2)
    found = detections(annotations, 2)
    before = [dict(row) for row in found]
    first = average_precision(annotations, found)
    assert found == before
    assert average_precision(annotations, found) == first
