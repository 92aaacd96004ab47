"""Importing the backend stays light."""

import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in ran.stdout.split()}


@pytest.mark.parametrize("module", ["antiparallel.torch", "antiparallel.torch.contract"])
def test_importing_the_backend_imports_no_other_framework(module: str) -> None:
    imported = modules_after(f"import {module}")
    assert "torch" in imported
    assert not imported & {"keras", "tensorflow", "jax", "lightning", "torchvision", "timm"}


def test_the_check_would_notice() -> None:
    assert "torchvision" in modules_after("import antiparallel.torch, torchvision")
