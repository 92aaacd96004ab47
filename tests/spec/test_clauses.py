"""Every clause of SPEC.md that can be tested is tested, and every clause that is cited exists."""

import ast
import re
from importlib.resources import files
from pathlib import Path

import pytest

from antiparallel.spec import ALIASES, RULES, SPEC_VERSION

CLAUSE = r"[A-Z][0-9]+"


def clauses(text: str) -> list[tuple[str, bool]]:
    """Names of the clauses in order, and whether they are testable."""
    paragraphs = re.split(r"\n\s*\n", text)
    starts = ((re.match(rf"\*\*({CLAUSE})\b", paragraph), paragraph) for paragraph in paragraphs)
    return [
        (start[1], "*Not testable" not in " ".join(paragraph.split()))
        for start, paragraph in starts
        if start
    ]


def clauses_tested(source: str) -> set[str]:
    """Clauses that the marks of a module's tests name."""
    tests = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    marks = [mark for test in tests for mark in test.decorator_list if isinstance(mark, ast.Call)]
    return {
        ast.literal_eval(name)
        for mark in marks
        if ast.unparse(mark.func) == "pytest.mark.clause"
        for name in mark.args
    }


@pytest.fixture(scope="module")
def tested_here() -> set[str]:
    return set().union(
        *(
            clauses_tested(path.read_text(encoding="utf-8"))
            for path in Path(__file__).parent.glob("*.py")
        )
    )


def test_every_testable_clause_has_a_test_that_names_it(
    spec_text: str, tested_here: set[str]
) -> None:
    missing = [
        name for name, testable in clauses(spec_text) if testable and name not in tested_here
    ]
    assert not missing, f"no test is named after {missing}"


def test_every_clause_that_a_test_names_exists(spec_text: str, tested_here: set[str]) -> None:
    assert tested_here <= {name for name, _ in clauses(spec_text)}


def test_clauses_are_numbered_from_one_without_gaps_chapter_by_chapter(spec_text: str) -> None:
    names = [name for name, _ in clauses(spec_text)]
    chapters = re.findall(r"^## ([A-Z])\. ", spec_text, re.MULTILINE)
    expected = [
        f"{chapter}{number}"
        for chapter in chapters
        for number in range(1, 1 + sum(name[0] == chapter for name in names))
    ]
    assert names == expected
    assert len(names) > 60


def test_a_clause_without_a_test_would_be_noticed() -> None:
    text = "**A1 One.** Must.\n\n**A2** Must not.\n\n**A3** Air. *Not testable: air.*\n"
    assert clauses(text) == [("A1", True), ("A2", True), ("A3", False)]
    source = """
@pytest.mark.parametrize("a", ["A3"])
@pytest.mark.clause("A1", "B2")
def test_one(): ...
@pytest.mark.clause("A2")
def no_test(): ...
"""
    assert clauses_tested(source) == {"A1", "B2"}


def test_clauses_cited_by_the_reference_exist(spec_text: str) -> None:
    known = {name for name, _ in clauses(spec_text)}
    folder = files("antiparallel.spec")
    sources = [file.read_text() for file in folder.iterdir() if file.name.endswith(".py")]
    lists = re.findall(
        rf"clauses?\s+({CLAUSE}(?:(?:,| and| to|, and)\s+{CLAUSE})*)", " ".join(sources)
    )
    cited = {name for part in lists for name in re.findall(CLAUSE, part)}
    assert len(cited) > 10
    assert cited <= known
    chapters = re.findall(r"SPEC\.md, chapter ([A-Z])", " ".join(sources))
    assert {f"{chapter}1" for chapter in chapters} <= known


def test_the_text_and_the_code_have_one_version(spec_text: str) -> None:
    assert re.search(r"^Version (\S+)$", spec_text, re.MULTILINE)[1] == SPEC_VERSION


@pytest.mark.clause("R9")
def test_the_rules_of_the_text_are_the_rules_of_the_code(spec_text: str) -> None:
    chapter = spec_text.split("## R. Rules")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\S+)` \|", chapter, re.MULTILINE) == list(RULES)
    names = chapter.split("**R9 Names.**")[1].split("\n\n")[0]
    assert dict(re.findall(r"`(\S+)`\s+\((\S+)\)", names)) == ALIASES
