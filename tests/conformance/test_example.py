"""A stranger's backend: installed, found by name through its entry point, and certified."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "conformance" / "example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example from a copy, without network, into a folder of its own."""
    copy, target = tmp_path_factory.mktemp("source") / "example", tmp_path_factory.mktemp("site")
    shutil.copytree(PROJECT, copy)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    answer = subprocess.run(
        [*pip, "--no-build-isolation", "--target", target, copy], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    return target


def suite(site: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    asked = ["--pyargs", "antiparallel.conformance", "--profile", "quick", *options]
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *asked], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_suite_certifies_a_backend_from_outside_by_its_name(installed: Path, tmp_path: Path):
    answer = suite(installed, tmp_path, "--backend", "example")
    assert answer.returncode == 0, answer.stdout
    assert "example" in answer.stdout
    assert "transposed convolutions are not written yet" in answer.stdout


def test_without_its_installation_the_name_is_not_known(tmp_path: Path):
    answer = suite(tmp_path, tmp_path, "--backend", "example")
    assert answer.returncode != 0
    assert "backend='example'" in answer.stdout + answer.stderr
