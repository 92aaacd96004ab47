"""The suite that decides whether a backend follows the specification."""

from antiparallel.conformance.backends import get_backend
from antiparallel.conformance.records import Record, Violation
from antiparallel.conformance.registry import Check, all_checks, check
from antiparallel.conformance.runner import PROFILES, Profile, check_backend, replay

__all__ = [
    "PROFILES",
    "Check",
    "Profile",
    "Record",
    "Violation",
    "all_checks",
    "check",
    "check_backend",
    "get_backend",
    "replay",
]
