"""The clauses of SPEC.md by their ids, for messages that say what was violated."""

import re
from functools import cache
from importlib.resources import files

from antiparallel.spec import SpecError

_CLAUSE = re.compile(
    r"^\*\*(?P<id>[A-Z]\d+) (?P<heading>.+?)\*\*(?P<text>.*?)(?:\n\n|\n```|\Z)",
    re.DOTALL | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"(?<=\.)(?<!Eq\.)(?<!al\.)\s")


@cache
def clauses() -> dict[str, str]:
    """Return, by its id, each clause's heading and first sentence."""
    text = files("antiparallel.spec").joinpath("SPEC.md").read_text(encoding="utf-8")
    return {
        found["id"]: _opening(found["heading"], found["text"]) for found in _CLAUSE.finditer(text)
    }


def first_sentence(clause: str) -> str:
    """Return a clause's heading and first sentence.

    Raises:
        SpecError: SPEC.md has no such clause.
    """
    if clause not in clauses():
        raise SpecError(f"Expected the id of a clause of SPEC.md. Received: clause={clause!r}")
    return clauses()[clause]


def _opening(heading: str, text: str) -> str:
    first = _SENTENCE_END.split(text.strip())[0]
    return " ".join(f"{heading} {first}".split())
