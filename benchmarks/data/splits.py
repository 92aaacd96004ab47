"""Pictures on disk: the layouts that people have, checked before anything is trained."""

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.data.pictures import SUFFIXES, fault
from antiparallel.spec import SpecError

_VALIDATION = ("val", "validation", "test")
_LARGEST = 64 * 2**20  # bytes of a picture's file; ImageNet's largest has 15.2 MB

Watch: TypeAlias = Callable[[int, int], None]
"""Told how many pictures of how many were checked."""


@dataclass(frozen=True)
class Split:
    """The pictures of one split.

    Args:
        root: A folder or zip file with one folder a class.
        names: Each picture's path in it.
        labels: The number of each picture's class, ``(pictures,)``, int64.
    """

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]

    def read(self, index: int) -> bytes:
        """Return a picture's file.

        Raises:
            OSError: It cannot be read, or is no file of a picture's size.
        """
        name = self.names[index]
        if self.root.is_dir():
            path = self.root / name
            if path.stat().st_size > _LARGEST:
                raise OSError(f"larger than {_LARGEST} bytes")
            return path.read_bytes()
        archive = _archive(self.root, os.getpid())
        if archive.getinfo(name).file_size > _LARGEST:
            raise OSError(f"larger than {_LARGEST} bytes")
        return archive.read(name)

    def without(self, indices: Iterable[int]) -> "Split":
        """Return the split without some of its pictures."""
        left = np.setdiff1d(np.arange(len(self.names)), list(indices))
        return Split(self.root, tuple(self.names[i] for i in left), self.labels[left])


@dataclass(frozen=True)
class Splits:
    """Both splits of a data set.

    Args:
        classes: The classes' names, whose places are the labels.
        train: Training pictures, by class and name.
        validation: Validation pictures, by class and name.
        skipped: Pictures that are left out because they cannot be read, with the reason.
    """

    classes: tuple[str, ...]
    train: Split
    validation: Split
    skipped: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return a checksum of the pictures' names, in their order."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation):
            for name in split.names:
                digest.update(name.encode() + b"\0")
            digest.update(b"\0")
        return digest.hexdigest()


def find_splits(root: Path) -> Splits:
    """Return the splits of a data set, classes and pictures in sorted order.

    Args:
        root: A folder with ``train`` and ``val`` (or ``validation``, or ``test``), each a folder
            or a zip file with one folder of pictures a class: ImageNet's by WordNet id, or
            any other class folders, as torchvision's ``ImageFolder`` takes them.

    Raises:
        SpecError: A split is missing or has no pictures, a class is empty, or the splits have
            different classes.
    """
    if not root.is_dir():
        raise SpecError(f"Expected a folder with train and val in it. Received: {str(root)!r}")
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


def without_bad_pictures(splits: Splits, allowed: int, watch: Watch) -> Splits:
    """Return the splits without the pictures that cannot be read.

    Every file is opened; pixels are not decoded, but a file whose end is missing is found.

    Args:
        splits: The splits.
        allowed: How many unreadable pictures are left out; more are an error.
        watch: Told of the progress.

    Raises:
        SpecError: There are more than allowed. Names them.
    """
    total = len(splits.train.names) + len(splits.validation.names)
    done = 0
    bad: list[str] = []
    left: list[Split] = []
    for split in (splits.train, splits.validation):
        faults = {}
        for index in range(len(split.names)):
            if reason := _fault(split, index):
                faults[index] = f"{split.root.name}/{split.names[index]}: {reason}"
            done += 1
            if done % 1000 == 0 or done == total:
                watch(done, total)
        bad += faults.values()
        left.append(split.without(faults) if faults else split)
    if len(bad) > allowed:
        shown = "; ".join(bad[:5]) + ("; ..." if len(bad) > 5 else "")
        raise SpecError(
            f"Expected pictures that can be read, or --skip-bad-images {len(bad)} to leave them "
            f"out. Received: {shown}"
        )
    train, validation = left
    return Splits(splits.classes, train, validation, skipped=tuple(bad))


def _find(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        for path in (root / name, root / f"{name}.zip"):
            if path.is_dir() or zipfile.is_zipfile(path):
                return path
    raise SpecError(
        f"Expected one of {', '.join(names)} as a folder or zip file. "
        f"Received: {str(root)!r} with {', '.join(sorted(p.name for p in root.iterdir())[:10])}"
    )


def _pictures(path: Path) -> dict[str, list[str]]:
    """Return each class's pictures; of a folder's other entries, hidden ones are passed over."""
    classes: dict[str, list[str]] = {}
    if path.is_dir():
        for entry in os.scandir(path):
            if entry.is_dir() and not entry.name.startswith("."):
                classes[entry.name] = [f"{entry.name}/{e.name}" for e in os.scandir(entry.path)]
    else:
        for name in _archive(path, os.getpid()).namelist():
            label, slash, rest = name.partition("/")
            if slash:
                classes.setdefault(label, []).extend([name] if rest else [])
    classes = {
        label: sorted(name for name in names if name.lower().endswith(SUFFIXES))
        for label, names in classes.items()
    }
    if empty := sorted(label for label, names in classes.items() if not names):
        raise SpecError(
            f"Expected pictures ({', '.join(SUFFIXES)}) of every class. "
            f"Received: none of {', '.join(empty[:5])} in {path.name}"
        )
    if not classes:
        raise SpecError(f"Expected one folder of pictures a class. Received: none in {path.name}")
    return classes


def _split(path: Path, classes: dict[str, list[str]]) -> Split:
    names = tuple(name for label in sorted(classes) for name in classes[label])
    counts = [len(classes[label]) for label in sorted(classes)]
    return Split(path, names, np.repeat(np.arange(len(counts), dtype=np.int64), counts))


def _fault(split: Split, index: int) -> str | None:
    try:
        return fault(split.read(index))
    except (OSError, zipfile.BadZipFile) as error:
        return str(error)


@cache
def _archive(path: Path, process: int) -> zipfile.ZipFile:
    """Open a zip file once in each process, which have places of their own in it."""
    return zipfile.ZipFile(path)
