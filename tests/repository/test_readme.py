"""What the README prints is run as printed, in a copy of the checkout, as a new user would."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEST_COMMAND = (
    "python3 -m venv .venv && .venv/bin/pip install tox && "
    ".venv/bin/tox run-parallel --parallel-no-spinner"
)

# Keras's own, where it turns a torch variable into an array.
KERAS_ON_NUMPY_2 = "__array__ implementation doesn't accept a copy keyword"


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The README's shell commands in order, but for the one that runs this very test."""
    lines = [line for block in code_blocks("sh") for line in block.splitlines() if line.strip()]
    return [line for line in lines if line != TEST_COMMAND]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows, without anything that was built or installed."""
    copy = tmp_path_factory.mktemp("checkout")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listing.split("\0")):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return copy


def run_as_a_new_user(arguments: list[str], cwd: Path) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith(("TOX", "COV"))
    }
    done = subprocess.run(
        arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, f"{arguments[-1]}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def test_every_command_of_the_readme_runs_as_printed(checkout: Path) -> None:
    assert len(commands()) >= 3
    for command in commands():
        run_as_a_new_user(["bash", "-euo", "pipefail", "-c", command], checkout)


def test_every_python_example_of_the_readme_runs_after_its_commands(checkout: Path) -> None:
    examples = code_blocks("python")
    assert examples
    for example in examples:
        warnings = ["-W", "error", "-W", f"ignore:{KERAS_ON_NUMPY_2}:DeprecationWarning"]
        run_as_a_new_user([".venv/bin/python", *warnings, "-c", example], checkout)


def test_ci_runs_the_test_command_that_the_readme_prints() -> None:
    assert TEST_COMMAND in [line for block in code_blocks("sh") for line in block.splitlines()]
    assert TEST_COMMAND in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_picture_and_page_that_the_readme_names_is_in_the_repository() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []
