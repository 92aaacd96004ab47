"""COCO's annotations: read whole, checked, and kept in arrays."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.data.masks import mask_fault
from antiparallel.benchmarks.files import read_bounded
from antiparallel.spec import SpecError

_LARGEST = 2**30  # bytes; the largest of COCO's has 469 MB
_LONGEST_SIDE = 65_535
_HIGHEST = 2**53 - 1  # of ids and sizes: faster-coco-eval has doubles for both

PICTURE = np.dtype([("id", np.int64), ("width", np.int64), ("height", np.int64)])
OBJECT = np.dtype(
    [
        ("id", np.int64),
        ("place", np.int64),
        ("label", np.int64),
        ("box", np.float64, 4),
        ("area", np.float64),
        ("crowd", np.bool_),
    ]
)

_Row: TypeAlias = tuple[Any, ...]


class AnnotationFile(NamedTuple):
    """A file of annotations, and the folder of its pictures.

    Args:
        path: The file.
        folder: The folder's name.
    """

    path: Path
    folder: str


@dataclass(frozen=True)
class Annotations:
    """Pictures in order of their ids, and the objects in them.

    Args:
        categories: The name of each category by its id, in order of the ids. Its place in this
            order is its class.
        pictures: ``(pictures,)``, of type ``PICTURE``: id, width and height in pixels.
        names: Each picture's folder and file.
        objects: ``(objects,)``, of type ``OBJECT``, in order of their pictures and as listed in
            each: id; the place of the picture; class; left, top, width and height of the box in
            pixels, as listed; the area of the mask in square pixels; whether it is a crowd.
    """

    categories: dict[int, str]
    pictures: NDArray[np.void]
    names: tuple[str, ...]
    objects: NDArray[np.void]

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """Left, top, right and bottom of the part of each box in its picture, ``(objects, 4)``."""
        boxes = self.objects["box"]
        pictures = self.pictures[self.objects["place"]]
        ends = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        most = np.stack([pictures["width"], pictures["height"]] * 2, axis=1)
        corners: NDArray[np.float64] = np.clip(ends, 0, most)
        return corners

    @cached_property
    def empty(self) -> NDArray[np.bool_]:
        """Whether no part of an object's box lies in its picture, ``(objects,)``."""
        empty: NDArray[np.bool_] = np.any(self.corners[:, 2:] <= self.corners[:, :2], axis=1)
        return empty

    @cached_property
    def learnable(self) -> NDArray[np.bool_]:
        """Whether an object is one to learn: no crowd, and in its picture; ``(objects,)``."""
        return ~self.objects["crowd"] & ~self.empty

    def of(self, chosen: NDArray[np.int64]) -> Self:
        """Return some of the pictures, whose places ascend, with what is in them."""
        objects = self.objects[np.isin(self.objects["place"], chosen)]
        objects["place"] = np.searchsorted(chosen, objects["place"])
        names = tuple(self.names[place] for place in chosen.tolist())
        return replace(self, pictures=self.pictures[chosen], names=names, objects=objects)

    def fingerprint(self) -> str:
        """Return a checksum of all of it."""
        digest = hashlib.sha256(json.dumps([*self.categories.items(), *self.names]).encode())
        digest.update(self.pictures.tobytes())
        digest.update(self.objects.tobytes())
        return digest.hexdigest()


def read_annotations(files: Sequence[AnnotationFile]) -> Annotations:
    """Return what files list together, which is theirs one after the other.

    Polygons are passed over: nothing here uses masks, and they are most of a file.

    Args:
        files: The files.

    Raises:
        SpecError: A file is missing, is no JSON, lacks a key or holds a value that cannot be; an
            id is there twice; an object is in an unknown picture or of an unknown category. Names
            the file and the id.
    """
    contents = [_read(file) for file in files]
    categories = [content.categories() for content in contents]
    if any(others != categories[0] for others in categories):
        raise SpecError(f"Expected the same categories in {_named(files)}. Received: others")
    rows, names = zip(*(content.pictures() for content in contents), strict=True)
    pictures, paths = np.concatenate(rows), [name for part in names for name in part]
    _require_unique("image", pictures["id"], files)
    order = np.argsort(pictures["id"])
    pictures = pictures[order]
    objects = np.concatenate([content.objects(pictures, categories[0]) for content in contents])
    _require_unique("annotation", objects["id"], files)
    return Annotations(
        categories[0],
        pictures,
        tuple(paths[place] for place in order.tolist()),
        objects[np.argsort(objects["place"], kind="stable")],
    )


class _Entry:
    """One entry of a file's lists, whose values are checked as they are asked for."""

    __slots__ = ("_where", "values")

    def __init__(self, values: dict[str, Any], kind: str, number: int, path: Path) -> None:
        self.values = values
        self._where = kind, number, path

    def value(self, key: str) -> Any:
        try:
            return self.values[key]
        except KeyError:
            raise self.error(f"a key {key!r}", f"only {', '.join(self.values)}") from None

    def whole(self, key: str, least: int = 0, most: int = _HIGHEST) -> int:
        found = self.value(key)
        if type(found) is int and least <= found <= most:
            return found
        raise self.error(f"a whole number from {least} to {most}", {key: found})

    def text(self, key: str) -> str:
        found = self.value(key)
        if isinstance(found, str) and found.isprintable():
            return found
        raise self.error("a text", {key: found})

    def error(self, expected: str, received: object) -> SpecError:
        kind, number, path = self._where
        found = self.values.get("id")
        which = found if type(found) is int else f"number {number} of the list"
        return SpecError(
            f"Expected {expected} for {kind} {which} in {path.name}. Received: {str(received)[:80]}"
        )


class _Content(NamedTuple):
    """What a file holds, of which nothing but the lists is checked."""

    file: AnnotationFile
    lists: Mapping[str, list[Any]]

    def categories(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for entry in self._entries("category", "categories"):
            number = entry.whole("id")
            if number in found:
                raise entry.error("an id that is there once", f"id {number} twice")
            found[number] = entry.text("name")
        if not found:
            raise SpecError(f"Expected categories in {self.file.path.name}. Received: none")
        return dict(sorted(found.items()))

    def pictures(self) -> tuple[NDArray[np.void], list[str]]:
        rows: list[_Row] = []
        names = []
        for entry in self._entries("image", "images"):
            sides = (entry.whole(key, 1, _LONGEST_SIDE) for key in ("width", "height"))
            rows.append((entry.whole("id"), *sides))
            names.append(f"{self.file.folder}/{entry.text('file_name')}")
        return np.array(rows, PICTURE), names

    def objects(
        self, pictures: NDArray[np.void], categories: Mapping[int, str]
    ) -> NDArray[np.void]:
        places = {number: place for place, number in enumerate(pictures["id"].tolist())}
        labels = {number: label for label, number in enumerate(categories)}
        sides = pictures[["width", "height"]].tolist()

        def rows() -> Iterator[_Row]:
            for entry in self._entries("annotation", "annotations"):
                place = places.get(entry.whole("image_id"))
                if place is None:
                    raise entry.error("an image_id of an image", entry.values["image_id"])
                label = labels.get(entry.whole("category_id"))
                if label is None:
                    raise entry.error("a category_id of a category", entry.values["category_id"])
                _check_mask(entry, *sides[place])
                crowd = bool(entry.whole("iscrowd", 0, 1))
                yield entry.whole("id"), place, label, _box(entry), _area(entry), crowd

        return np.fromiter(rows(), OBJECT)

    def _entries(self, kind: str, key: str) -> Iterator[_Entry]:
        for number, values in enumerate(self.lists[key]):
            if not isinstance(values, dict):
                raise SpecError(
                    f"Expected a JSON object for every {kind} in {self.file.path.name}. "
                    f"Received: {str(values)[:80]}, number {number} of the list"
                )
            yield _Entry(values, kind, number, self.file.path)


def _read(file: AnnotationFile) -> _Content:
    path = file.path
    try:
        found = json.loads(read_bounded(path, _LARGEST), object_hook=_without_polygons)
    except OSError as error:
        raise SpecError(
            f"Expected a file of COCO's annotations. Received: {path.name}: "
            f"{error.strerror or error}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise SpecError(f"Expected JSON. Received: {path.name}: {error}") from error
    lists = found if isinstance(found, dict) else {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(lists.get(key), list):
            raise SpecError(f"Expected a list {key!r} in {path.name}. Received: none")
    return _Content(file, lists)


def _without_polygons(found: dict[str, Any]) -> dict[str, Any]:
    """Drop polygons while the file is read, so that they are never all in memory."""
    if isinstance(found.get("segmentation"), list):
        del found["segmentation"]
    return found


def _box(entry: _Entry) -> list[float]:
    found = entry.value("bbox")
    if (
        not isinstance(found, list)
        or len(found) != 4
        or not all(_is_number(side) for side in found)
        or min(found[2:]) < 0
    ):
        raise entry.error(
            "a bbox of left, top, width and height, all finite, the last two >= 0",
            {"bbox": found},
        )
    return found


def _area(entry: _Entry) -> float:
    found = entry.value("area")
    if not _is_number(found) or found < 0:
        raise entry.error("a finite area >= 0", {"area": found})
    return float(found)


def _is_number(found: Any) -> bool:
    """Return whether a value is a number, and no absurd one; NaN compares as false."""
    return type(found) in (int, float) and bool(abs(found) <= _HIGHEST)


def _check_mask(entry: _Entry, width: int, height: int) -> None:
    mask = entry.values.get("segmentation")
    if isinstance(mask, dict) and (fault := mask_fault(mask, width, height)):
        raise entry.error("a whole run-length encoded mask as segmentation", fault)


def _require_unique(kind: str, numbers: NDArray[np.int64], files: Sequence[AnnotationFile]) -> None:
    found, counts = np.unique(numbers, return_counts=True)
    if len(found) < len(numbers):
        twice = found[counts > 1][:5].tolist()
        raise SpecError(
            f"Expected every {kind} id once in {_named(files)}. Received: more than once {twice}"
        )


def _named(files: Sequence[AnnotationFile]) -> str:
    return ", ".join(file.path.name for file in files)
