"""Write a cache: shard by shard, each whole or not there."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from antiparallel.benchmarks.data.cache import INDEX, PARTS, PER_SHARD, Content, Index, Shard
from antiparallel.benchmarks.data.splits import Split, Splits, Watch, unwatched
from antiparallel.benchmarks.data.transforms import resized
from antiparallel.benchmarks.data.workers import Workers
from antiparallel.benchmarks.files import commit, draft_of, named_in_errors
from antiparallel.spec import SpecError


class _Work(NamedTuple):
    """What every worker has."""

    splits: Mapping[str, Split]
    size: int


def write_cache(
    splits: Splits,
    out: Path,
    *,
    size: int,
    workers: int = 0,
    per_shard: int = PER_SHARD,
    stop: Callable[[], bool] = lambda: False,
    watch: Watch = unwatched,
) -> None:
    """Write a cache, or go on with one: shards that are whole are not written again.

    Args:
        splits: The pictures.
        out: The cache.
        size: The shorter side that larger pictures are resized to; others stay as they are.
        workers: Processes that decode; 0 for none but this one.
        per_shard: The number of pictures that a shard holds.
        stop: Asked after every shard; True leaves the others to the next time.
        watch: Told how many pictures of how many are written.

    Raises:
        SpecError: A picture cannot be decoded; or the folder holds something else, which is then
            as it was, or another process writes to it.
    """
    index = Index(
        size=size,
        source=splits.fingerprint(),
        classes=splits.classes,
        skipped=splits.skipped,
        per_shard=per_shard,
        train=len(splits.train.names),
        val=len(splits.validation.names),
    )
    parts = dict(zip(PARTS, (splits.train, splits.validation), strict=True))
    pool = Workers(workers, _Work(parts, size))
    with _held(out, index):
        missing = [shard for shard in index.shards(out) if not shard.is_whole()]
        total = index.train + index.val
        done = total - sum(len(shard.indices) for shard in missing)
        watch(done, total)
        try:
            for count in pool.map(_write_shard, missing):
                done += count
                watch(done, total)
                if stop():
                    return
        finally:
            pool.close()


def _write_shard(work: _Work, shard: Shard) -> int:
    split = work.splits[shard.part]
    draft = draft_of(shard.pixels)
    digest, sides = hashlib.sha256(), []
    with named_in_errors(shard.pixels), draft.open("wb") as file:
        for index in shard.indices:
            image = split.picture(index)
            if min(image.size) > work.size:
                image = resized(image, work.size)
            pixels = image.tobytes()
            digest.update(pixels)
            file.write(pixels)
            sides.append(image.size)
    commit(draft, shard.pixels)
    widths, heights = zip(*sides, strict=True)
    Content(
        names=tuple(split.names[index] for index in shard.indices),
        labels=tuple(split.labels[list(shard.indices)].tolist()),
        widths=widths,
        heights=heights,
        sha256=digest.hexdigest(),
    ).write(shard.content)
    return len(shard.indices)


@contextmanager
def _held(out: Path, index: Index) -> Iterator[None]:
    """Hold a cache, new or begun, so that no other process writes to it."""
    _require_ours(out, index)
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        _lock(folder, out)
        if not _require_ours(out, index):  # nobody else begins it any more
            index.write(out / INDEX)
        yield
    finally:
        os.close(folder)


def _require_ours(out: Path, index: Index) -> bool:
    """Return whether a cache was begun here; raise SpecError if the folder holds another thing."""
    begun = (out / INDEX).is_file()
    if begun and Index.read(out / INDEX).digest() != index.digest():
        raise SpecError(
            f"Expected a new folder, or a cache of these pictures with size={index.size}. "
            f"Received: out={str(out)!r}"
        )
    if not begun and out.exists() and not (out.is_dir() and not any(_shown(out))):
        raise SpecError(f"Expected a new or empty folder, or a cache. Received: out={str(out)!r}")
    return begun


def _shown(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder, drafts aside."""
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _lock(folder: int, out: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SpecError(
            f"Expected a cache that no other process writes to. Received: out={str(out)!r}"
        ) from error
