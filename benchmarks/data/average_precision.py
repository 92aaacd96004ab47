"""COCO's average precision of detections."""

from collections.abc import Mapping, Sequence
from typing import Any

from antiparallel.benchmarks.data.annotations import Annotations

METRICS = {
    "ap": "AP_all",
    "ap50": "AP_50",
    "ap75": "AP_75",
    "ap_small": "AP_small",
    "ap_medium": "AP_medium",
    "ap_large": "AP_large",
}
"""What they are called here, and in faster-coco-eval."""


def average_precision(
    annotations: Annotations, detections: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Return COCO's six average precisions of boxes, each from 0 to 1.

    The mean over categories and over 101 recalls of the best precision at that recall or a higher
    one: at overlaps (IoU) of 0.5 to 0.95, of 0.5, and of 0.75; and over all overlaps of small
    objects (an area below 32^2 pixels), medium ones and large ones (above 96^2). NaN where there
    is no such object.

    Args:
        annotations: The objects; crowds are regions that are left out of account.
        detections: What was found, in COCO's format of results.

    References:
        T.-Y. Lin et al. (2014), Microsoft COCO: Common Objects in Context.
    """
    from faster_coco_eval import COCO, COCOeval_faster  # slow, and workers import this package

    truth = COCO(_in_coco_format(annotations))
    # Copies, because it writes to them.
    found = truth.loadRes([dict(detection) for detection in detections])
    evaluation = COCOeval_faster(truth, found, "bbox")
    evaluation.run()
    values = evaluation.stats_as_dict
    return {ours: _or_nan(values[theirs]) for ours, theirs in METRICS.items()}


def _or_nan(value: float) -> float:
    return float("nan") if value < 0 else value


def _in_coco_format(annotations: Annotations) -> dict[str, Any]:
    numbers = list(annotations.categories)
    pictures = annotations.pictures["id"].tolist()
    objects = annotations.objects
    return {
        "images": [{"id": number} for number in pictures],
        "categories": [
            {"id": number, "name": name} for number, name in annotations.categories.items()
        ],
        "annotations": [
            {
                "id": place,  # from 1, for to its evaluation 0 means none
                "image_id": pictures[found["place"]],
                "category_id": numbers[found["label"]],
                "bbox": found["box"].tolist(),
                "area": float(found["area"]),
                "iscrowd": int(found["crowd"]),
            }
            for place, found in enumerate(objects, 1)
        ],
    }
