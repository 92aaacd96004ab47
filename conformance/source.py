"""Turning the arguments of a failing example into lines to paste."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


def lines_to_paste(check: str, backend: str | None, arguments: Mapping[str, Any]) -> str:
    """Return Python source that runs one example of a check again.

    Args:
        check: The check's name.
        backend: The name that ``get_backend`` knows it by; None if it has none.
        arguments: The check's arguments.
    """
    if backend is None:
        found, names = "backend = ...  # the object that was checked", "replay"
    else:
        found, names = f"backend = get_backend({backend!r})", "get_backend, replay"
    imports = sorted({line for value in arguments.values() for line in _imports(value)})
    passed = "".join(f", {name}={as_source(value)}" for name, value in arguments.items())
    return "\n".join(
        [
            f"from antiparallel.conformance import {names}",
            *imports,
            "",
            found,
            f"replay({check!r}, backend{passed})",
        ]
    )


def as_source(value: Any) -> str:
    """Return the expression that makes a value; dataclasses without what is their default."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = [f"{name}={as_source(part)}" for name, part in _changed(value)]
        return f"{type(value).__name__}({', '.join(parts)})"
    return repr(value)


def _changed(value: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(value):
        part = getattr(value, field.name)
        if field.default is MISSING or part != field.default:
            yield field.name, part


def _imports(value: Any) -> Iterator[str]:
    if is_dataclass(value):
        yield f"from {type(value).__module__} import {type(value).__name__}"
        for _, part in _changed(value):
            yield from _imports(part)
