"""Pictures on disk: the layouts that people have, checked before anything is trained."""

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.data import cifar10
from antiparallel.benchmarks.data.pictures import SUFFIXES, fault
from antiparallel.spec import SpecError

_VALIDATION = ("val", "validation", "test")
_PPM = b"P6 32 32 255\n"
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
        sizes: Each file's size, in bytes.
    """

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    sizes: tuple[int, ...]

    def read(self, index: int) -> bytes:
        """Return a picture's file.

        Raises:
            OSError: It cannot be read, or is no file of a picture's size.
        """
        if self.sizes[index] > _LARGEST:
            raise OSError(f"larger than {_LARGEST} bytes")
        name = self.names[index]
        if self.root.is_dir():
            return (self.root / name).read_bytes()
        try:
            return _archive(self.root, os.getpid()).read(name)
        except Exception as error:  # encrypted, damaged, packed by an unknown method
            raise OSError(f"{type(error).__name__}: {error}") from error

    def without(self, indices: Iterable[int]) -> Self:
        """Return the split without some of its pictures."""
        left = np.setdiff1d(np.arange(len(self.names)), list(indices))
        names, sizes = (tuple(old[i] for i in left) for old in (self.names, self.sizes))
        return replace(self, names=names, labels=self.labels[left], sizes=sizes)


@dataclass(frozen=True)
class Cifar10Split(Split):
    """A split of CIFAR-10 in its authors' files; a picture's name is its number.

    Args:
        training: Whether it is the training split.
    """

    training: bool = True

    def read(self, index: int) -> bytes:
        """Return a picture, as a file that says no more than its size and its pixels."""
        found = _cifar10(self.root, os.getpid())
        split = found.train if self.training else found.validation
        pixels: bytes = split.images[int(self.names[index])].tobytes()
        return _PPM + pixels


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
        """Return a checksum of the pictures' names and sizes, in their order."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation):
            for name, size in zip(split.names, split.sizes, strict=True):
                digest.update(f"{name}\0{size}\0".encode())
            digest.update(b"\0")
        return digest.hexdigest()


def find_splits(root: Path) -> Splits:
    """Return the splits of a data set, classes and pictures in sorted order.

    Args:
        root: A folder with ``train`` and ``val`` (or ``validation``, or ``test``), each a folder
            or a zip file with one folder of pictures a class: ImageNet's by WordNet id, or
            any other class folders, as torchvision's ``ImageFolder`` takes them. Or one with
            ``cifar-10-batches-py``.

    Raises:
        SpecError: A split is missing or has no pictures, a class is empty, or the splits have
            different classes.
    """
    if not root.is_dir():
        raise SpecError(f"Expected a folder with train and val in it. Received: {str(root)!r}")
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
        for member in _archive(path, os.getpid()).infolist():
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


def _split(path: Path, classes: dict[str, list[tuple[str, int]]]) -> Split:
    names, sizes = zip(*(file for label in sorted(classes) for file in classes[label]), strict=True)
    counts = [len(classes[label]) for label in sorted(classes)]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return Split(path, names, labels, sizes)


def _fault(split: Split, index: int) -> str | None:
    try:
        return fault(split.read(index))
    except OSError as error:
        return str(error)


@cache
def _archive(path: Path, process: int) -> zipfile.ZipFile:
    """Open a zip file once in each process, which have places of their own in it."""
    return zipfile.ZipFile(path)


@cache
def _cifar10(root: Path, process: int) -> cifar10.Cifar10:
    """Read CIFAR-10 once in each process."""
    return cifar10.read_cifar10(root)
