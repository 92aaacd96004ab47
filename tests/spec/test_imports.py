"""The specification needs NumPy and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

FRAMEWORKS = {"torch", "keras", "tensorflow", "jax", "jaxlib", "lightning", "scipy", "sklearn"}
FRAMEWORKS |= {"hypothesis", "pytest", "matplotlib", "pandas"}

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


def loaded_by(package: str, folder: Path) -> set[str]:
    """Top-level modules that are loaded when a package and all its modules are imported."""
    command = [sys.executable, "-c", IMPORT_ALL, package]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_specification_imports_no_framework(tmp_path: Path) -> None:
    loaded = loaded_by("antiparallel.spec", tmp_path)
    assert {"antiparallel", "numpy"} <= loaded
    assert not loaded & FRAMEWORKS


@pytest.mark.parametrize("framework", ["torch", "scipy"])
def test_a_framework_imported_by_any_module_would_be_noticed(
    framework: str, tmp_path: Path
) -> None:
    (tmp_path / framework).mkdir()
    (tmp_path / framework / "__init__.py").touch()
    (tmp_path / "careless").mkdir()
    (tmp_path / "careless" / "__init__.py").touch()
    (tmp_path / "careless" / "deep.py").write_text(f"import {framework}")
    assert framework in loaded_by("careless", tmp_path)
