"""Files that are either wholly there or not there, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from antiparallel.spec import SpecError

Model = TypeVar("Model", bound=BaseModel)

LARGEST_JSON = 32 * 2**20
"""Bytes; a record of ImageNet's 50 epochs has a million."""


def read_bounded(path: Path, largest: int) -> bytes:
    """Return a file's content, never more than asked for.

    Args:
        path: The file.
        largest: The most bytes that such a file may have.

    Raises:
        OSError: It cannot be read, is a device or the like, or is larger.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"no regular file: {str(path)!r}")
    with path.open("rb") as file:
        # Python makes room for all that is asked for, before it reads.
        most = min(os.fstat(file.fileno()).st_size, largest)
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"larger than {most} bytes: {str(path)!r}")
    return content


def read_model(path: Path, kind: type[Model], what: str) -> Model:
    """Return what a JSON file holds.

    Args:
        path: The file.
        kind: The model that it is an instance of.
        what: What it is, in words.

    Raises:
        OSError: It cannot be read, or is larger than any such file.
        SpecError: It holds something else.
    """
    try:
        return kind.model_validate_json(read_bounded(path, LARGEST_JSON))
    except ValidationError as error:
        raise SpecError(
            f"Expected {what} ({first_fault(error)}). Received: {str(path)!r}"
        ) from error


def first_fault(error: ValidationError) -> str:
    """Return the first thing that is wrong with a JSON file: where, and what."""
    first = error.errors(include_input=False)[0]
    names = ".".join(str(part) for part in first["loc"])
    place = names.encode("unicode_escape").decode()  # a damaged name may hold anything
    return f"{place}: {first['msg']}" if place else first["msg"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that, at any moment, it holds either its old or its new content.

    Only one process at a time may write to the folder.
    """
    draft = draft_of(path)
    with named_in_errors(path):
        draft.write_bytes(content)
    commit(draft, path)


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Let an OSError name the file that was written when it came: a full disk's names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


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
