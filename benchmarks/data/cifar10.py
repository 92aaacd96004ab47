"""CIFAR-10 in the layout of its authors, which torchvision keeps too."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiparallel.benchmarks.data.batches import Batch
from antiparallel.spec import SpecError

FOLDER = "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_VALIDATION = "test_batch"
_SIDE, _CHANNELS, _CLASSES = 32, 3, 10
_LARGEST = 64 * 2**20  # bytes of a file; the authors' have 31 MB
_FAMILIES = ("numpy.core.multiarray", "numpy._core.multiarray")


class Cifar10(NamedTuple):
    """The pictures of CIFAR-10.

    Args:
        classes: The classes' names, whose places are the labels.
        train: Training pictures, in the files' order.
        validation: Validation pictures.
    """

    classes: tuple[str, ...]
    train: Batch
    validation: Batch


def read_cifar10(root: Path) -> Cifar10:
    """Return CIFAR-10's pictures, ``(pictures, 32, 32, 3)`` uint8, and labels.

    The files are pickles, which may run anything when they are loaded in the usual way. Here they
    may only build lists, dictionaries, texts and numbers: an array comes as an inert record of its
    bytes, which are looked at afterwards. So nothing of a file's own choosing is called.

    Args:
        root: The folder ``cifar-10-batches-py``, or the one that holds it.

    Raises:
        SpecError: A file is missing, asks for anything else, or does not hold such pictures.

    References:
        A. Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images.
    """
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    batches = [_batch(folder / name) for name in _TRAIN]
    validation = _batch(folder / _VALIDATION)
    train = Batch(
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
    )
    return Cifar10(_class_names(folder / "batches.meta"), train, validation)


class _Array:
    """An array as a pickle describes it; nothing is made of it."""

    state: Any = None

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Type:
    """An array's type as a pickle names it."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None: ...


def _bytes(text: str, *_: object) -> bytes:
    """Return bytes that Python 3 wrote as text, for want of anything better in protocol 2."""
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in _FAMILIES:
            return _Array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Array if name == "ndarray" else _Type
        if (module, name) == ("_codecs", "encode"):
            return _bytes
        raise pickle.UnpicklingError(f"asks for {module}.{name}")


def _load(path: Path) -> dict[Any, Any]:
    """Return the dictionary in a file."""
    try:
        if path.stat().st_size > _LARGEST:
            raise pickle.UnpicklingError(f"larger than {_LARGEST} bytes")
        content = path.read_bytes()
        for code, argument, _ in pickletools.genops(content):
            # A place in the memo costs memory for all places before it.
            if code.name == "LONG_BINPUT" and isinstance(argument, int) and argument > len(content):
                raise pickle.UnpicklingError("asks for unreasonable memory")
        found = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a broken pickle may raise anything
        raise SpecError(
            f"Expected one of CIFAR-10's files. Received: {path.name}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, dict):
        raise SpecError(
            f"Expected a dictionary in CIFAR-10's {path.name}. Received: {type(found).__name__}"
        )
    return found


def _batch(path: Path) -> Batch:
    found = _load(path)
    labels = found.get("labels")
    if not isinstance(labels, list) or not all(
        type(label) is int and 0 <= label < _CLASSES for label in labels
    ):
        raise SpecError(f"Expected labels from 0 to 9 in {path.name}. Received: others, or none")
    return Batch(_images(found.get("data"), len(labels), path), np.array(labels, np.int64))


def _images(data: object, count: int, path: Path) -> NDArray[np.uint8]:
    """Return a file's pictures with their channels last."""
    pixels = _SIDE * _SIDE * _CHANNELS
    received: object = type(data).__name__
    if isinstance(data, _Array) and isinstance(data.state, tuple) and len(data.state) == 5:
        _, shape, kind, by_column, content = data.state
        received = f"shape {shape}"
        if (
            shape == (count, pixels)
            and isinstance(kind, _Type)
            and kind.name == "u1"
            and not by_column
            # Python 2 wrote bytes as text, in which each is one letter.
            and isinstance(content, str | bytes)
            and len(content) == count * pixels
        ):
            raw = content.encode("latin1") if isinstance(content, str) else content
            planes = np.frombuffer(raw, np.uint8).reshape(count, _CHANNELS, _SIDE, _SIDE)
            return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    raise SpecError(
        f"Expected {count} pictures of {pixels} bytes in {path.name}, one a label. "
        f"Received: {received}"
    )


def _class_names(path: Path) -> tuple[str, ...]:
    names = _load(path).get("label_names")
    if (
        not isinstance(names, list)
        or len(names) != _CLASSES
        or not all(isinstance(name, str) for name in names)
    ):
        raise SpecError(f"Expected 10 class names in {path.name}. Received: others, or none")
    return tuple(names)
