"""Finding a backend by the name under which it is registered."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from antiparallel.spec import SpecError
from antiparallel.spec.contract import Backend

GROUP = "antiparallel.backends"
"""The entry point group in which backends are registered."""


def get_backend(name: str) -> Backend:
    """Return the backend registered under a name.

    Args:
        name: A name in the entry point group ``antiparallel.backends``, or ``"module:attribute"``
            for a backend that is not registered (yet).

    Raises:
        SpecError: No backend has that name, or the object found does not satisfy ``Backend``.
    """
    if ":" in name:
        found: Any = EntryPoint(name, name, GROUP).load()
    else:
        registered = {entry.name: entry for entry in entry_points(group=GROUP)}
        if name not in registered:
            raise SpecError(
                f"Expected a registered backend ({', '.join(sorted(registered))}) or "
                f"'module:attribute'. Received: backend={name!r}"
            )
        found = registered[name].load()
    return require_backend(found)


def require_backend(found: Any) -> Backend:
    """Return the object if it satisfies ``Backend``.

    Raises:
        SpecError: It lacks an attribute or a method; the message says which.
    """
    if isinstance(found, type):
        raise SpecError(f"Expected a backend object, not its class. Received: backend={found!r}")
    if missing := [name for name in _members() if not hasattr(found, name)]:
        raise SpecError(
            f"Expected a backend with {', '.join(_members())}; {', '.join(missing)} missing. "
            f"Received: backend={found!r}"
        )
    backend: Backend = found
    return backend


def versions(backend: Backend) -> dict[str, str]:
    """Return what a backend is made of, by its attribute ``versions`` if it has one."""
    return dict(getattr(backend, "versions", {}))


def _members() -> list[str]:
    public = (*Backend.__annotations__, *vars(Backend))
    return [name for name in public if not name.startswith("_")]
