"""The clauses of SPEC.md by their ids, for messages that say what was violated."""

import re
from functools import cache
from importlib.resources import files

from antiparallel.spec import SpecError

_CLAUSE = re.compile(r"^\*\*(?P<id>[A-Z]\d+) (?P<text>.+?)(?:\n\n|\n```|\Z)", re.DOTALL | re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.:])\s")


@cache
def clauses() -> dict[str, str]:
    """Return the text of each clause by its id, on one line, without emphasis."""
    text = files("antiparallel.spec").joinpath("SPEC.md").read_text(encoding="utf-8")
    return {
        found["id"]: " ".join(found["text"].replace("**", "").split())
        for found in _CLAUSE.finditer(text)
    }


def first_sentence(clause: str) -> str:
    """Return a clause's heading and first sentence.

    Raises:
        SpecError: SPEC.md has no such clause.
    """
    if clause not in clauses():
        raise SpecError(f"Expected the id of a clause of SPEC.md. Received: clause={clause!r}")
    text = clauses()[clause]
    sentences = _SENTENCE_END.split(text)
    heading, rest = sentences[0], sentences[1:2]
    short = len(heading.split()) < 6  # a heading such as "Empty batches.", not yet a sentence
    return " ".join([heading, *rest]) if short else heading
