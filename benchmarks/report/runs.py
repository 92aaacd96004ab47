"""Runs as a report reads them from their folders."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.record import Found, Record, Shown
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.spec import SpecError


@dataclass(frozen=True)
class Run:
    """A run: what its record says, and what is kept beside it.

    Args:
        record: The record.
        losses: The losses of every update of the epochs completed, in nats, ``(updates,)`` each:
            ``"loss"``, and of detectors its parts.
        shown: The truth about a few pictures; None for networks that look for no objects.
        detections: What was found in these pictures, in COCO's format of results.
    """

    record: Record
    losses: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    shown: Shown | None = None
    detections: tuple[Found, ...] = ()


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Read run folders, and all runs below other folders.

    Raises:
        SpecError: A path is neither a run nor has runs below it, or a file cannot be read.
    """
    found: dict[Path, Run] = {}
    for path in paths:
        folders = sorted(record.parent for record in path.rglob("record.json"))
        if not folders:
            raise SpecError(
                f"Expected a run's folder, or one with runs below it. Received: {str(path)!r}"
            )
        found |= {folder.resolve(): _read(RunFolder(folder)) for folder in folders}
    return list(found.values())


def _read(folder: RunFolder) -> Run:
    record = folder.read_record()
    losses = {name: np.array(found) for name, found in folder.read_losses().items()}
    shown = folder.read_shown()
    if shown is None:
        return Run(record, losses)
    images = {picture.image for picture in shown.pictures}
    # Only these: COCO's validation pictures have half a million.
    detections = tuple(one for one in folder.read_detections() if one.image_id in images)
    return Run(record, losses, shown, detections)
