"""``antiparallel conformance``."""

from enum import StrEnum
from typing import Annotated

import typer

from antiparallel.benchmarks.conformance import check_conformance


class Profile(StrEnum):
    """The conformance suite's profiles, by their names there."""

    quick = "quick"
    default = "default"
    thorough = "thorough"


def conformance(
    backend: Annotated[str, typer.Option(help="A registered backend, or MODULE:OBJECT.")] = "torch",
    profile: Annotated[
        Profile, typer.Option(help="How many examples each check gets.")
    ] = Profile.default,
    only: Annotated[
        list[str] | None, typer.Option(help="Name of a check to run; repeatable. Default: all.")
    ] = None,
) -> None:
    """Check whether a backend follows the specification; exit code 1 if it does not.

    For example:

        antiparallel conformance

        antiparallel conformance --backend my_package.backend:backend --profile quick
    """
    if not check_conformance(backend, profile.value, only or []):
        raise typer.Exit(1)
