"""``antiparallel cache``."""

import time
from pathlib import Path
from typing import Annotated

import typer

from antiparallel.benchmarks.commands.options import DataFolder, SkipBadImages
from antiparallel.benchmarks.data.cache import check_cache
from antiparallel.benchmarks.data.cache_writer import write_cache
from antiparallel.benchmarks.data.layouts import find_splits
from antiparallel.benchmarks.data.splits import without_bad_pictures
from antiparallel.benchmarks.signals import Signals
from antiparallel.benchmarks.terminal import console, errors, pictures_bar, progress_bars
from antiparallel.spec import SpecError


def cache(
    out: Annotated[Path, typer.Option(metavar="CACHE", help="Folder of the cache.")],
    data: DataFolder = None,
    size: Annotated[
        int, typer.Option(min=1, help="Shorter side that larger pictures are resized to.")
    ] = 256,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode pictures.")] = 2,
    skip_bad_images: SkipBadImages = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare a cache with its checksums.")
    ] = False,
) -> None:
    """Copy pictures once with every one decoded, and train from the copy: --data CACHE.

    A picture takes about 0.26 MB at size 256, ImageNet about 350 GB. Interrupted (Ctrl-C, kill,
    power), the same command goes on. The originals are not changed, and not needed any more.

    For example:

        antiparallel cache --data imagenet --out imagenet-256 --workers 16

        antiparallel cache --out imagenet-256 --check

        antiparallel train imagenet/resnet18-ss --data imagenet-256
    """
    if check is (data is not None):
        raise SpecError(
            f"Expected either --data DIR or --check. Received: data={str(data or '')!r}"
        )
    began = time.perf_counter()
    with Signals().caught() as signals, progress_bars() as bars:
        if data is None:
            check_cache(out, pictures_bar(bars, "comparing pictures", signals))
        else:
            splits = without_bad_pictures(
                find_splits(data),
                skip_bad_images,
                pictures_bar(bars, "checking pictures", signals),
            )
            write_cache(
                splits,
                out,
                size=size,
                workers=workers,
                stop=signals,
                watch=pictures_bar(bars, "writing the cache"),
            )
    if data is not None and signals():
        errors.print("Stopped. The same command goes on.")
        signals.exit()
    console.print(f"{'As written' if check else 'Cache'}: {out}", soft_wrap=True, highlight=False)
    console.print(f"Done in {time.perf_counter() - began:.0f} s.", highlight=False)
