"""Files that are either wholly there or not there, whatever happens while they are written."""

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that, at any moment, it holds either its old or its new content.

    Only one process at a time may write to the folder.
    """
    draft = draft_of(path)
    draft.write_bytes(content)
    commit(draft, path)


def draft_of(path: Path) -> Path:
    """Return where a file is written before it gets its name; a leftover is written over."""
    return path.with_name(f".{path.name}.draft")


def commit(draft: Path, path: Path) -> None:
    """Give a finished draft its name, so that it survives a power failure."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries (new files, renames) survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
