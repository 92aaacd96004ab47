"""A copy of a data set with every picture decoded, for devices that decoding would hold up.

A folder with ``cache.json`` and, for every 1024 pictures of a split, two files: ``train-00000.rgb``
has their pixels and nothing else, ``train-00000.json`` says whose they are. Nothing of it is run,
and sizes are compared with each other before anything is read. Pixels are read, not mapped into
memory: a file that is cut short meanwhile is then an error with a name, and not the process's end.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from antiparallel.benchmarks.data.splits import Split, Splits, Watch
from antiparallel.benchmarks.files import (
    LARGEST_JSON,
    first_fault,
    read_bounded,
    write_atomically,
)
from antiparallel.spec import SpecError

INDEX = "cache.json"
PARTS = ("train", "val")
PER_SHARD = 1024  # pictures, unless asked otherwise
_CHANNELS = 3
_LARGEST = 90 * 10**6 * _CHANNELS  # bytes of a picture; none with more pixels is decoded

_Count = Annotated[int, Field(ge=0, le=10**9)]
_Side = Annotated[int, Field(ge=1, le=65_535)]


class _Sealed(BaseModel):
    """A JSON file with a checksum of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    checksum: str = ""

    def digest(self) -> str:
        """Return the checksum of all other fields."""
        return hashlib.sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the file, or replace it."""
        sealed = self.model_copy(update={"checksum": self.digest()})
        write_atomically(path, sealed.model_dump_json().encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what a file holds.

        Raises:
            SpecError: It is missing or damaged.
        """
        try:
            found = cls.model_validate_json(read_bounded(path, LARGEST_JSON))
        except FileNotFoundError as error:
            raise _unlike("missing; the command that began it goes on", path) from error
        except OSError as error:
            raise _unlike(error.strerror or str(error), path) from error
        except ValidationError as error:
            raise _unlike(first_fault(error), path) from error
        if found.checksum != found.digest():
            raise _unlike("another checksum than its own", path)
        return found


class Index(_Sealed):
    """What a cache is of.

    Args:
        size: The shorter side of pictures that were larger.
        source: The fingerprint of the pictures that were copied.
        classes: The classes' names.
        skipped: Pictures that were left out, with the reason.
        per_shard: The number of pictures of every shard of a split but the last.
        train: The number of training pictures.
        val: The number of validation pictures.
    """

    version: Literal[1] = 1
    size: _Side
    source: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    skipped: tuple[str, ...]
    per_shard: Annotated[_Count, Field(ge=1)]
    train: Annotated[_Count, Field(ge=1)]
    val: Annotated[_Count, Field(ge=1)]

    def shards(self, root: Path) -> "Iterator[Shard]":
        """Yield all shards of a cache: nobody knows yet whether it has so many."""
        for part, indices in zip(PARTS, (range(self.train), range(self.val)), strict=True):
            for number, start in enumerate(indices[:: self.per_shard]):
                chosen = indices[start : start + self.per_shard]
                yield Shard(_pixels(root, part, number), part, chosen)


class Content(_Sealed):
    """What a shard holds: its pictures' names, labels, sides, and the SHA-256 of its pixels."""

    names: tuple[str, ...]
    labels: tuple[_Count, ...]
    widths: tuple[_Side, ...]
    heights: tuple[_Side, ...]
    sha256: str

    def sizes(self) -> NDArray[np.int64]:
        """Return how many bytes each picture has."""
        return np.array(self.widths, np.int64) * np.array(self.heights, np.int64) * _CHANNELS


class Shard(NamedTuple):
    """Some pictures of a split.

    Args:
        pixels: The file of its pixels.
        part: One of ``PARTS``.
        indices: Its pictures' places in their split.
    """

    pixels: Path
    part: str
    indices: range

    @property
    def content(self) -> Path:
        """The file that says whose they are."""
        return self.pixels.with_suffix(".json")

    def read(self) -> Content:
        """Return what it holds.

        Raises:
            SpecError: A file is missing or damaged, or its numbers do not fit each other.
        """
        found = Content.read(self.content)
        lengths = {len(part) for part in (found.names, found.labels, found.widths, found.heights)}
        if lengths != {len(self.indices)}:
            raise _unlike(f"not {len(self.indices)} pictures", self.content)
        sizes = found.sizes()
        size = int(sizes.sum())
        if not self.pixels.is_file() or self.pixels.stat().st_size != size:
            raise _unlike(f"not {size} bytes", self.pixels)
        if sizes.max() > _LARGEST:  # of a file that takes no room on the disk
            raise _unlike(f"a picture of more than {_LARGEST} bytes", self.pixels)
        return found

    def is_whole(self) -> bool:
        """Return whether it can be read, checksum of the pixels aside."""
        try:
            self.read()
        except SpecError:
            return False
        return True


@dataclass(frozen=True)
class CachedSplit(Split):
    """A split whose pictures are decoded; its root is the cache.

    Args:
        part: One of ``PARTS``.
        per_shard: See ``Index``.
        widths: Each picture's width, ``(pictures,)``, int64.
        starts: Where its pixels begin in the shard, ``(pictures,)``, int64.
    """

    part: str
    per_shard: int
    widths: NDArray[np.int64]
    starts: NDArray[np.int64]

    def _decoded(self, index: int) -> Image.Image:
        size, width = self.sizes[index], int(self.widths[index])
        path = _pixels(self.root, self.part, index // self.per_shard)
        with path.open("rb", buffering=0) as file:
            file.seek(int(self.starts[index]))
            content = file.read(size)
        if len(content) < size:
            raise OSError(f"{path.name} has become shorter")
        return Image.frombytes("RGB", (width, size // width // _CHANNELS), content)


def read_cache(root: Path) -> Splits:
    """Return the splits of a cache.

    Raises:
        SpecError: A file is missing, damaged or of another size than its index says. Names it.
    """
    index = Index.read(root / INDEX)
    train, validation = (_read_split(index, root, part) for part in PARTS)
    cache = f"shorter sides of {index.size} at most, of the pictures {index.source}"
    return Splits(index.classes, train, validation, index.skipped, cache)


def check_cache(root: Path, watch: Watch) -> None:
    """Compare the pixels of every shard with their checksum.

    Args:
        root: The cache.
        watch: Told how many pictures of how many were compared.

    Raises:
        SpecError: A file is missing or damaged. Names it.
    """
    index = Index.read(root / INDEX)
    done = 0
    bad = []
    for shard in index.shards(root):
        content = shard.read()
        with shard.pixels.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != content.sha256:
                bad.append(shard.pixels.name)
        done += len(shard.indices)
        watch(done, index.train + index.val)
    if bad:
        raise SpecError(
            "Expected the pixels that were written; the command that made the cache writes files "
            f"anew that were deleted. Received: others in {', '.join(bad)}"
        )


def _read_split(index: Index, root: Path, part: str) -> CachedSplit:
    contents = [shard.read() for shard in index.shards(root) if shard.part == part]
    labels = np.concatenate([np.array(content.labels, np.int64) for content in contents])
    if labels.max() >= len(index.classes):
        raise _unlike(f"{part}: labels of more than {len(index.classes)} classes", root / INDEX)
    sizes = [content.sizes() for content in contents]
    return CachedSplit(
        root,
        names=tuple(name for content in contents for name in content.names),
        labels=labels,
        sizes=tuple(np.concatenate(sizes).tolist()),
        part=part,
        per_shard=index.per_shard,
        widths=np.concatenate([np.array(content.widths, np.int64) for content in contents]),
        starts=np.concatenate([np.cumsum(size) - size for size in sizes]),
    )


def _pixels(root: Path, part: str, number: int) -> Path:
    return root / f"{part}-{number:05d}.rgb"


def _unlike(reason: str, path: Path) -> SpecError:
    return SpecError(f"Expected a whole cache ({reason}). Received: {path.name}")
