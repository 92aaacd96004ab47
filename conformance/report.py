"""What a run says about itself: its header, and its records as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from antiparallel.conformance.backends import versions
from antiparallel.conformance.records import Record
from antiparallel.conformance.registry import all_checks
from antiparallel.conformance.runner import PROFILES, Profile
from antiparallel.spec import SPEC_VERSION
from antiparallel.spec.contract import Backend


def header(backend: Backend, profile: Profile) -> list[str]:
    """Return lines that say what is tested, how thoroughly, and what is declared unsupported."""
    made_of = ", ".join(f"{name} {number}" for name, number in versions(backend).items())
    unsupported = [f"  {name}: {reason}" for name, reason in backend.unsupported.items()]
    return [
        f"antiparallel specification {SPEC_VERSION}, backend {backend.name!r}"
        + (f" ({made_of})" if made_of else ""),
        f"profile {profile!r}: {len(all_checks())} checks, up to {PROFILES[profile]} examples each",
        "declared unsupported, and must raise UnsupportedError: "
        + ("nothing" if not unsupported else f"{len(unsupported)}"),
        *unsupported,
    ]


def as_json(backend: Backend, profile: Profile, records: Sequence[Record]) -> dict[str, Any]:
    """Return a run as JSON holds it."""
    return {
        "spec_version": SPEC_VERSION,
        "backend": backend.name,
        "versions": versions(backend),
        "profile": profile,
        "unsupported": dict(backend.unsupported),
        "counts": dict(Counter(record.status for record in records)),
        "records": [asdict(record) for record in records],
    }
