"""What a check finds: a violation while it runs, a record when it has run."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["passed", "failed", "unsupported", "expected-failure"]


@dataclass(frozen=True)
class Record:
    """The outcome of one check of one backend.

    Args:
        check: The check's name.
        clause: The clause of SPEC.md that it checks.
        status: ``"passed"``; ``"failed"``; ``"unsupported"``: every example needs a capability
            that the backend declares unsupported, and was refused where it must be;
            ``"expected-failure"``: it failed and the list of expected failures has it.
        message: Why, in one sentence, then the clause; empty when passed.
        reproduce: Lines to paste into Python that show the failure again; empty when passed.
        examples: How many examples ran.
        seconds: How long they took.
    """

    check: str
    clause: str
    status: Status
    message: str
    reproduce: str
    examples: int
    seconds: float


class Violation(AssertionError):  # noqa: N818 - pytest and hypothesis expect an AssertionError
    """A backend did something else than the specification says.

    Args:
        observed: What the backend did.
        expected: What it should have done.
        call: The call that shows it.
    """

    def __init__(self, observed: str, expected: str, call: str) -> None:
        super().__init__(f"Observed {observed}, but should be {expected} [{call}].")
        self.call = call
