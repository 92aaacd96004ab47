"""The pictures of a data set, checked before anything is trained."""

import hashlib
import io
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from antiparallel.benchmarks.data.pictures import PictureError, decode, fault, strict
from antiparallel.spec import SpecError

_LARGEST = 64 * 2**20  # bytes of a picture's file; ImageNet's largest has 15.2 MB
_THREADS = 8  # that check files: a disk serves some at a time
_CHUNK = 250  # pictures that a thread checks in one go

Watch: TypeAlias = Callable[[int, int], None]
"""Told how many pictures of how many are done."""


def unwatched(done: int, total: int) -> None:
    """Do nothing with the progress."""


@dataclass(frozen=True)
class Split(ABC):
    """The pictures of one split.

    Args:
        root: Where they are.
        names: Each picture's name there.
        labels: The number of each picture's class, ``(pictures,)``, int64.
        sizes: Each picture's size there, in bytes.
    """

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    sizes: tuple[int, ...]

    def picture(self, index: int) -> Image.Image:
        """Return a picture in RGB.

        Raises:
            SpecError: It cannot be read or decoded. Names it.
        """
        try:
            return self._decoded(index)
        except (PictureError, OSError) as error:
            raise SpecError(
                f"Expected a picture that can be decoded ({error}). "
                f"Received: {self.root.name}/{self.names[index]}"
            ) from error

    def fault(self, index: int) -> str | None:
        """Return why a picture cannot be read, or None; to be called in ``strict``.

        Pictures in a file that was checked when it was opened have no fault.
        """
        return None

    def without(self, indices: Iterable[int]) -> Self:
        """Return the split without some of its pictures."""
        left = np.setdiff1d(np.arange(len(self.names)), list(indices))
        names, sizes = (tuple(old[i] for i in left) for old in (self.names, self.sizes))
        return replace(self, names=names, labels=self.labels[left], sizes=sizes)

    @abstractmethod
    def _decoded(self, index: int) -> Image.Image:
        """Return a picture, or raise PictureError or OSError."""


@dataclass(frozen=True)
class FileSplit(Split):
    """A split with a file for every picture, in a folder or zip file with one folder a class."""

    def read(self, index: int) -> bytes:
        """Return a picture's file.

        Raises:
            OSError: It cannot be read, or is no file of a picture's size.
        """
        with self._opened(index) as file:
            return file.read()

    def fault(self, index: int) -> str | None:
        """Return why a picture's file is no whole picture, or None."""
        try:
            with self._opened(index) as file:
                return fault(file)
        except OSError as error:
            return str(error)

    def _decoded(self, index: int) -> Image.Image:
        return decode(self.read(index))

    def _opened(self, index: int) -> BinaryIO:
        if self.sizes[index] > _LARGEST:
            raise OSError(f"larger than {_LARGEST} bytes")
        name = self.names[index]
        if self.root.is_dir():
            return (self.root / name).open("rb")
        try:
            return io.BytesIO(open_archive(self.root).read(name))
        except Exception as error:  # encrypted, damaged, packed by an unknown method
            raise OSError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Splits:
    """Both splits of a data set.

    Args:
        classes: The classes' names, whose places are the labels.
        train: Training pictures, by class and name.
        validation: Validation pictures, by class and name.
        skipped: Pictures that are left out because they cannot be read, with the reason.
        cache: What the pictures are copies of, if they come from a cache.
    """

    classes: tuple[str, ...]
    train: Split
    validation: Split
    skipped: tuple[str, ...] = ()
    cache: str = ""

    def fingerprint(self) -> str:
        """Return a checksum of the pictures' names and sizes, in their order."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation):
            for name, size in zip(split.names, split.sizes, strict=True):
                digest.update(f"{name}\0{size}\0".encode())
            digest.update(b"\0")
        return digest.hexdigest()


def without_bad_pictures(splits: Splits, allowed: int, watch: Watch) -> Splits:
    """Return the splits without the pictures that cannot be read.

    Every file is opened, and its head and tail are read (members of zip files whole, for their
    checksums): a file whose end is missing is found, a changed pixel in its middle is not.

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
        faults: dict[int, str] = {}
        for checked, found in _checked(split):
            faults |= found
            done += checked
            watch(done, total)
        bad += (f"{split.root.name}/{split.names[i]}: {reason}" for i, reason in faults.items())
        left.append(split.without(faults) if faults else split)
    if len(bad) > allowed:
        shown = "; ".join(bad[:5]) + ("; ..." if len(bad) > 5 else "")
        raise SpecError(
            f"Expected pictures that can be read, or --skip-bad-images {len(bad)} to leave them "
            f"out. Received: {shown}"
        )
    train, validation = left
    return replace(splits, train=train, validation=validation, skipped=(*splits.skipped, *bad))


def _checked(split: Split) -> Iterator[tuple[int, dict[int, str]]]:
    """Yield how many more pictures were checked, and the faults of which."""
    indices = range(len(split.names))
    chunks = [indices[start : start + _CHUNK] for start in indices[::_CHUNK]]
    threads = _THREADS if split.root.is_dir() else 1  # one place in a zip file
    with strict(), ThreadPoolExecutor(threads) as pool:
        found = pool.map(partial(_faults, split), chunks)
        yield from zip(map(len, chunks), found, strict=True)


def _faults(split: Split, indices: Iterable[int]) -> dict[int, str]:
    return {index: reason for index in indices if (reason := split.fault(index))}


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip file once in each process, which have places of their own in it."""
    return _archive(path, os.getpid())


@cache
def _archive(path: Path, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)
