"""COCO's pictures and the objects in them."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.data.annotations import (
    AnnotationFile,
    Annotations,
    read_annotations,
)
from antiparallel.benchmarks.data.average_precision import average_precision
from antiparallel.benchmarks.data.batches import WHOLE, Batch, Part, Scored
from antiparallel.benchmarks.data.images import Images
from antiparallel.benchmarks.data.objects import Objects
from antiparallel.benchmarks.data.pictures import fault
from antiparallel.benchmarks.data.splits import (
    FileSplit,
    Split,
    Splits,
    Watch,
    unwatched,
    without_bad_pictures,
)
from antiparallel.benchmarks.data.transforms import Preprocessing, is_flipped
from antiparallel.benchmarks.record import Shown, ShownObject, ShownPicture
from antiparallel.spec import SpecError

_LISTS = "annotations"
_SHOWN = 8  # pictures, whose truth is kept with a run


class _Layout(NamedTuple):
    """The lists of a release, each with the folder of its pictures, and what their union is."""

    name: str
    train: tuple[tuple[str, str], ...]
    validation: tuple[tuple[str, str], ...]


_LAYOUTS = (
    _Layout(
        "train2017 and val2017",
        (("train2017", "instances_train2017.json"),),
        (("val2017", "instances_val2017.json"),),
    ),
    _Layout(
        "trainval35k and minival of 2014",
        (
            ("train2014", "instances_train2014.json"),
            ("val2014", "instances_valminusminival2014.json"),
        ),
        (("val2014", "instances_minival2014.json"),),
    ),
    _Layout(
        "train2014 and val2014",
        (("train2014", "instances_train2014.json"),),
        (("val2014", "instances_val2014.json"),),
    ),
)
"""In the order in which they are looked for."""


@dataclass(frozen=True)
class CocoSplit(FileSplit):
    """The pictures of a split; its labels are their places in the annotations.

    Args:
        sides: The width and height that each picture is listed with, ``(pictures, 2)``, int64.
    """

    sides: NDArray[np.int64]

    def fault(self, index: int) -> str | None:
        """Return why a picture's file is not the picture that is listed, or None."""
        width, height = self.sides[index].tolist()
        try:
            with self._opened(index) as file:
                return fault(file, (width, height))
        except OSError as error:
            return str(error)

    def without(self, indices: Any) -> Self:
        """Return the split without some of its pictures."""
        left = super().without(indices)
        return replace(left, sides=np.delete(self.sides, list(indices), axis=0))


class Coco:
    """COCO, decoded by workers; see ``Dataset``.

    Args:
        images: The pictures, whose labels are their places.
        train: The objects of the training pictures.
        validation: The objects of the pictures that are evaluated.
        notes: What a record says beside it.
    """

    def __init__(
        self, images: Images, train: Objects, validation: Objects, notes: dict[str, str]
    ) -> None:
        self._images = images
        self._train = train
        self._validation = validation
        self._rows = max(train.most, validation.most)  # the same always: to compile but once
        self._notes = notes
        self.mean = images.mean
        self.deviation = images.deviation

    @property
    def classes(self) -> int:
        """The number of categories."""
        return self._images.classes

    @property
    def train_size(self) -> int:
        """The number of training pictures."""
        return self._images.train_size

    @property
    def validation_labels(self) -> NDArray[np.int64]:
        """None: pictures have no class."""
        return np.empty(0, np.int64)

    def train_batches(
        self,
        *,
        seed: int,
        epoch: int,
        start: int,
        stop: int,
        batch_size: int,
        part: Part = WHOLE,
    ) -> Iterator[Batch]:
        """Yield an epoch's batches number ``start`` to ``stop - 1``."""
        for images in self._images.train_batches(
            seed=seed, epoch=epoch, start=start, stop=stop, batch_size=batch_size, part=part
        ):
            flipped = [
                is_flipped(seed=seed, epoch=epoch, index=place) for place in images.labels.tolist()
            ]
            yield self._train.batch(images, self._rows, flipped)

    def validation_batches(self, batch_size: int, part: Part = WHOLE) -> Iterator[Batch]:
        """Yield all validation pictures in their order; the last batch may be smaller."""
        for images in self._images.validation_batches(batch_size, part):
            yield self._validation.batch(images, self._rows, [False] * len(images.labels))

    def score(self, predictions: Sequence[Any]) -> Scored:
        """Return the average precision of what was found in the validation pictures.

        Args:
            predictions: For each picture a row for each object found, best first: left, top,
                right, bottom in pixels of the array, score, class.
        """
        detections = self._validation.detections(predictions)
        metrics = average_precision(self._validation.annotations, detections)
        return Scored(metrics, detections)

    def shown(self) -> Shown:
        """Return the truth about the first validation pictures."""
        annotations = self._validation.annotations
        pictures = []
        for place, name in enumerate(annotations.names[:_SHOWN]):
            number, width, height = annotations.pictures[place].tolist()
            objects = annotations.objects[annotations.objects["place"] == place]
            pictures.append(
                ShownPicture(
                    image=number,
                    name=name,
                    width=width,
                    height=height,
                    objects=tuple(
                        ShownObject(
                            category=list(annotations.categories)[one["label"]],
                            box=tuple(one["box"].tolist()),
                            crowd=bool(one["crowd"]),
                        )
                        for one in objects
                    ),
                )
            )
        return Shown(categories=annotations.categories, pictures=tuple(pictures))

    def describe(self) -> dict[str, str]:
        """Return what a record says of the data: contents, not the place."""
        described = self._images.describe()
        parts = (self._train, self._validation)
        contents = "".join(part.annotations.fingerprint() for part in parts)
        both = (described["fingerprint"] + contents).encode()
        return {
            **described,
            "train": str(self._train),
            "validation": (
                "the training pictures"
                if self._validation is self._train
                else str(self._validation)
            ),
            "fingerprint": hashlib.sha256(both).hexdigest(),
            **self._notes,
        }

    def close(self) -> None:
        """End the workers."""
        self._images.close()


def open_coco(
    root: Path,
    preprocessing: Preprocessing,
    *,
    training_pictures: int | None = None,
    evaluated_on: Literal["validation", "training"] = "validation",
    workers: int = 0,
    skip_bad_images: int = 0,
    watch: Watch = unwatched,
) -> Coco:
    """Open COCO, after a check of its annotations and of every file.

    Training pictures without an object to learn (no annotation, only crowds, or only boxes of which
    nothing lies in the picture) are left out, as torchvision's and Detectron2's references do;
    validation pictures never are. Crowds are not learnt, and in evaluation they are regions left
    out of account. Boxes are cut off at the picture's edge.

    Args:
        root: A folder with COCO's own folders: ``annotations``, and of pictures ``train2017`` and
            ``val2017``, with ``instances_{train,val}2017.json``; or ``train2014`` and ``val2014``.
            There ``instances_valminusminival2014.json`` and ``instances_minival2014.json``, if they
            are there, make up trainval35k and minival, which are the pictures of 2017's splits;
            without them it is the release's own split.
        preprocessing: How pictures become arrays of one size; its augmentation is "flip".
        training_pictures: How many training pictures are used, those whose smallest object takes
            most of its picture; None: all.
        evaluated_on: Which pictures are the validation pictures.
        workers: Processes that decode; 0 for none but this one.
        skip_bad_images: How many unreadable pictures are left out; more are an error.
        watch: Told of the check's progress.

    Raises:
        SpecError: The folder is not COCO, a file of annotations is not as COCO's are, or there are
            too many pictures that cannot be read or are of another size than listed.
    """
    if preprocessing.augmentation != "flip":
        raise SpecError(
            f"Expected augmentation 'flip' for COCO. Received: {preprocessing.augmentation!r}"
        )
    own = evaluated_on == "validation"
    layout = _layout(root, own)
    listed = read_annotations(_files(root, layout.train))
    shown = np.unique(listed.objects["place"][listed.learnable])
    train = listed.of(_largest_first(listed, shown, training_pictures))
    # The training pictures are looked at once, if they are the others too.
    validation = read_annotations(_files(root, layout.validation)) if own else listed.of(shown[:0])
    _require_two(train, validation)
    splits = Splits(tuple(train.categories.values()), _split(root, train), _split(root, validation))
    splits = without_bad_pictures(splits, skip_bad_images, watch)
    counts = len(splits.train.names), len(splits.validation.names)
    if not counts[0] or (own and not counts[1]):
        raise SpecError(
            "Expected training pictures with an object to learn, and validation pictures. "
            f"Received: {counts[0]} and {counts[1]} that can be read in {str(root)!r}"
        )
    train, validation = train.of(splits.train.labels), validation.of(splits.validation.labels)
    splits = replace(splits, train=_numbered(splits.train), validation=_numbered(splits.validation))
    learnt = evaluated = Objects(train, preprocessing)
    if own:
        evaluated = Objects(validation, preprocessing)
    else:
        splits = replace(splits, validation=splits.train)
    notes = {"split": layout.name, **_left_out(listed, len(shown))}
    return Coco(Images(splits, preprocessing, workers), learnt, evaluated, notes)


def _largest_first(
    listed: Annotations, shown: NDArray[np.int64], most: int | None
) -> NDArray[np.int64]:
    """Return the places of the pictures whose smallest object takes most of them, ascending."""
    if most is None or most >= len(shown):
        return shown
    learnt = listed.objects[listed.learnable]
    pictures = listed.pictures[learnt["place"]]
    shares = learnt["box"].prod(axis=1, where=[False, False, True, True]) / (
        pictures["width"] * pictures["height"]
    )
    smallest = np.full(len(listed.pictures), np.inf)
    np.minimum.at(smallest, learnt["place"], shares)
    return np.sort(shown[np.argsort(-smallest[shown], kind="stable")[:most]])


def _layout(root: Path, own: bool) -> _Layout:
    """Return the first layout whose lists are there, those of validation only if needed."""
    for layout in _LAYOUTS:
        parts = layout.train + (layout.validation if own else ())
        if all(file.path.is_file() for file in _files(root, parts)):
            for folder in {folder for folder, _ in parts}:
                if not (root / folder).is_dir():
                    raise SpecError(f"Expected a folder {folder} in {str(root)!r}. Received: none")
            return layout
    there = sorted(path.name for path in (root / _LISTS).glob("*.json"))
    raise SpecError(
        "Expected annotations/instances_train2017.json and annotations/instances_val2017.json, or "
        f"both of 2014, in {str(root)!r}. Received: {', '.join(there[:10]) or 'none'}"
    )


def _files(root: Path, parts: tuple[tuple[str, str], ...]) -> list[AnnotationFile]:
    return [AnnotationFile(root / _LISTS / name, folder) for folder, name in parts]


def _require_two(train: Annotations, validation: Annotations) -> None:
    """Raise SpecError unless two splits have the same categories, and no picture is in both."""
    if train.categories != validation.categories:
        only = sorted(train.categories.items() ^ validation.categories.items())
        raise SpecError(f"Expected the same categories in both splits. Received: {only[:5]} in one")
    if both := sorted({*train.names} & {*validation.names}):
        raise SpecError(f"Expected every picture in one split. Received: {both[:5]} in both")


def _split(root: Path, annotations: Annotations) -> CocoSplit:
    names = annotations.names
    there = {
        f"{folder}/{file.name}": file.stat().st_size
        for folder in {name.partition("/")[0] for name in names}
        for file in os.scandir(root / folder)
        if file.is_file()
    }
    numbers = annotations.pictures["id"].tolist()
    missing = [
        f"{name} of image {number}"
        for name, number in zip(names, numbers, strict=True)
        if name not in there
    ]
    if missing:
        raise SpecError(
            f"Expected a file for every image that is listed. Received: {len(missing)} of "
            f"{len(names)} without, {', '.join(missing[:5])}"
        )
    pictures = annotations.pictures
    return CocoSplit(
        root,
        names,
        labels=np.arange(len(names)),
        sizes=tuple(there[name] for name in names),
        sides=np.stack([pictures["width"], pictures["height"]], axis=1),
    )


def _numbered(split: Split) -> Split:
    """Return a split, of which pictures were left out, with their places as labels again."""
    return replace(split, labels=np.arange(len(split.names)))


def _left_out(listed: Annotations, shown: int) -> dict[str, str]:
    """Return what of the training split is not learnt, for the record."""
    unseen = int((listed.empty & ~listed.objects["crowd"]).sum())
    parts = {
        "pictures without an object to learn": len(listed.pictures) - shown,
        "boxes of which nothing lies in their picture": unseen,
        "crowds": int(listed.objects["crowd"].sum()),
    }
    found = [f"{count} {what}" for what, count in parts.items() if count]
    return {"left out of training": ", ".join(found)} if found else {}
