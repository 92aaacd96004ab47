"""Reads SPEC.md: its text, and the worked examples in it."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from antiparallel.spec import Conv, ConvTranspose, Dense, Geometry

_EXAMPLE = re.compile(r"^```json example=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KINDS = {"dense": Dense, "convolution": Conv, "transposed": ConvTranspose}


@pytest.fixture(scope="session")
def spec_text() -> str:
    return (files("antiparallel.spec") / "SPEC.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def example(spec_text: str) -> Callable[[str], Any]:
    """The worked example of that name, its lists as tuples and its layers as geometries."""
    examples = dict(_EXAMPLE.findall(spec_text))

    def read(name: str) -> Any:
        return json.loads(examples[name], object_hook=_with_layer)

    return read


def _with_layer(read: dict[str, Any]) -> dict[str, Any] | Geometry:
    if "kind" not in read:
        return read
    fields = {name: _as_tuple(value) for name, value in read.items() if name != "kind"}
    return _KINDS[read["kind"]](**fields)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
