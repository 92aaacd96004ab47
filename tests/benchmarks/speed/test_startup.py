"""What is paid once: it is timed for every rule, and tables keep what other engines took."""

import json
from pathlib import Path

import pytest

from antiparallel.benchmarks.speed.startup import (
    DRAWING,
    IMPORT,
    measure_startup,
    read_startup,
    write_startup,
)
from antiparallel.spec import SpecError


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torchvision")
    folder = tmp_path_factory.mktemp("startup")
    write_startup(measure_startup("torch", ["ss", "fa"], times=1, seed=0), folder)
    return folder


def test_everything_is_timed_as_often_as_asked(found: Path):
    startup = read_startup(found / "torch.json")
    assert set(startup.seconds) == {IMPORT, "to ss", "to fa", DRAWING}
    assert all(len(each) == 1 and min(each) > 0 for each in startup.seconds.values())
    assert startup.numbers == 60_192_808 - 1000 - 2 * 75_712  # biases and normalisation left out


def test_the_table_keeps_what_other_engines_took(found: Path, tmp_path: Path):
    startup = read_startup(found / "torch.json")
    write_startup(startup.model_copy(update={"backend": "keras", "engine": "jax"}), tmp_path)
    page = write_startup(startup, tmp_path)[0].read_text()
    assert "| keras-jax | 1 |" in page
    assert "| torch | 1 |" in page
    assert startup.origin.command in page


def test_a_damaged_file_is_refused_before_anything_is_written(found: Path, tmp_path: Path):
    startup = read_startup(found / "torch.json")
    damaged = json.loads((found / "torch.json").read_text()) | {"version": 2}
    (tmp_path / "keras-jax.json").write_text(json.dumps(damaged))
    with pytest.raises(SpecError, match=r"of this version .*Received: .*keras-jax\.json"):
        write_startup(startup, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["keras-jax.json"]


def test_a_backend_that_does_not_exist_is_refused():
    with pytest.raises(SpecError, match="Expected one of the backends"):
        measure_startup("caffe", ["ss"], times=1, seed=0)
