"""The layouts in which people have pictures."""

import functools
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from antiparallel.benchmarks.data import cache, cifar10
from antiparallel.benchmarks.data.pictures import SUFFIXES
from antiparallel.benchmarks.data.splits import FileSplit, Split, Splits, open_archive
from antiparallel.spec import SpecError

_VALIDATION = ("val", "validation", "test")


@dataclass(frozen=True)
class Cifar10Split(Split):
    """A split of CIFAR-10 in its authors' files; a picture's name is its number.

    Args:
        training: Whether it is the training split.
    """

    training: bool = True

    def _decoded(self, index: int) -> Image.Image:
        found = _cifar10(self.root, os.getpid())
        split = found.train if self.training else found.validation
        return Image.fromarray(split.images[int(self.names[index])])


def find_splits(root: Path) -> Splits:
    """Return the splits of a data set, classes and pictures in sorted order.

    Args:
        root: A folder with ``train`` and ``val`` (or ``validation``, or ``test``), each a folder
            or a zip file with one folder of pictures a class: ImageNet's by WordNet id, or
            any other class folders, as torchvision's ``ImageFolder`` takes them. Or one with
            ``cifar-10-batches-py``, or a cache.

    Raises:
        SpecError: A split is missing or has no pictures, a class is empty, or the splits have
            different classes.
    """
    if not root.is_dir():
        raise SpecError(f"Expected a folder with train and val in it. Received: {str(root)!r}")
    if (root / cache.INDEX).is_file():
        return cache.read_cache(root)
    if (root / cifar10.FOLDER).is_dir():
        return _cifar10_splits(root)
    found = [_find(root, ("train",)), _find(root, _VALIDATION)]
    classes = [_pictures(path) for path in found]
    first, second = (set(names) for names in classes)
    if first != second:
        only = {
            path.name: ", ".join(sorted(ours - theirs)[:5])
            for path, ours, theirs in zip(found, (first, second), (second, first), strict=True)
            if ours - theirs
        }
        raise SpecError(f"Expected the same classes in both splits. Received: only in {only}")
    train, validation = (_split(path, names) for path, names in zip(found, classes, strict=True))
    return Splits(tuple(sorted(first)), train, validation)


def _find(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        for path in (root / name, root / f"{name}.zip"):
            if path.is_dir() or zipfile.is_zipfile(path):
                return path
    raise SpecError(
        f"Expected one of {', '.join(names)} as a folder or zip file. "
        f"Received: {str(root)!r} with {', '.join(sorted(p.name for p in root.iterdir())[:10])}"
    )


def _cifar10_splits(root: Path) -> Splits:
    found = _cifar10(root, os.getpid())
    train, validation = (
        Cifar10Split(
            root,
            names=tuple(f"{number:05d}" for number in range(len(batch.labels))),
            labels=batch.labels,
            sizes=(batch.images[0].size,) * len(batch.labels),
            training=training,
        )
        for batch, training in ((found.train, True), (found.validation, False))
    )
    return Splits(found.classes, train, validation)


def _pictures(path: Path) -> dict[str, list[tuple[str, int]]]:
    """Return each class's pictures with their sizes; hidden folders are passed over."""
    classes: dict[str, list[tuple[str, int]]] = {}
    if path.is_dir():
        for entry in os.scandir(path):
            if entry.is_dir() and not entry.name.startswith("."):
                files = os.scandir(entry.path)
                classes[entry.name] = [(f"{entry.name}/{f.name}", f.stat().st_size) for f in files]
    else:
        for member in open_archive(path).infolist():
            label, slash, rest = member.filename.partition("/")
            if slash:
                file = [(member.filename, member.file_size)] if rest else []
                classes.setdefault(label, []).extend(file)
    classes = {
        label: sorted(file for file in files if file[0].lower().endswith(SUFFIXES))
        for label, files in classes.items()
    }
    if empty := sorted(label for label, names in classes.items() if not names):
        raise SpecError(
            f"Expected pictures ({', '.join(SUFFIXES)}) of every class. "
            f"Received: none of {', '.join(empty[:5])} in {path.name}"
        )
    if not classes:
        raise SpecError(f"Expected one folder of pictures a class. Received: none in {path.name}")
    return classes


def _split(path: Path, classes: dict[str, list[tuple[str, int]]]) -> FileSplit:
    names, sizes = zip(*(file for label in sorted(classes) for file in classes[label]), strict=True)
    counts = [len(classes[label]) for label in sorted(classes)]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return FileSplit(path, names, labels, sizes)


@functools.cache
def _cifar10(root: Path, process: int) -> cifar10.Cifar10:
    """Read CIFAR-10 once in each process."""
    return cifar10.read_cifar10(root)
