"""What a detector's backbone begins with: torchvision's weights, or a run of either backend."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiparallel.benchmarks.checkpoint import Checkpoint
from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.models.backbone import backbone_weights
from antiparallel.benchmarks.models.resnet18 import CONVOLUTIONS, NORMALIZATIONS
from antiparallel.benchmarks.recipes import RECIPES
from antiparallel.benchmarks.record import Position, Record
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.spec import SpecError

# First: TensorFlow, imported before PyTorch and torchvision, can make their import crash.
torch = pytest.importorskip("torch", exc_type=ImportError)
pytest.importorskip("torchvision", exc_type=ImportError)

Run = Callable[..., Path]
State = dict[str, np.ndarray]

VARIABLES = ("weight", "bias", "running_mean", "running_var")


def resnet18(prefix: str = "") -> State:
    """Return arrays by torchvision's names: every one another, and small."""
    names = [f"{layer}.weight" for layer in CONVOLUTIONS]
    names += [f"{layer}.{variable}" for layer in NORMALIZATIONS for variable in VARIABLES]
    names += ["fc.weight", "fc.bias", "bn1.num_batches_tracked", "layer1.0.conv1.feedback"]
    return {f"{prefix}{name}": np.full(2, n, np.float32) for n, name in enumerate(names)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what writes a run's folder."""

    def write(state: State | None, backend: str = "torch", **changes: Any) -> Path:
        folder = RunFolder(tmp_path / "run")
        recipe = RECIPES[changes.pop("recipe", "imagenette/resnet18-bp")]
        record = Record(recipe=recipe, overrides={}, seed=0, backend=backend, status="complete")
        folder.path.mkdir()
        folder.write_record(record.model_copy(update=changes))
        if state is not None:
            folder.save(Checkpoint(Position(), state))
        return folder.path

    return write


def test_a_pytorch_runs_weights_are_taken_without_the_last_layer_and_feedback(run: Run):
    state = resnet18("model.")
    arrays, source = backbone_weights(str(run(state | {"optimizer.0.velocity": np.zeros(2)})))
    assert len(arrays) == 20 + 4 * 20
    for name, array in arrays.items():
        assert (array == state[f"model.{name}"]).all()
    assert not any("fc" in name or "feedback" in name for name in arrays)
    assert source.startswith("imagenette/resnet18-bp torch seed 0, sha256 ")


def test_the_description_tells_weights_apart(tmp_path: Path, run: Run):
    state = resnet18("model.")
    path = run(state)
    _, one = backbone_weights(str(path))
    state["model.conv1.weight"] = state["model.conv1.weight"] + 1
    RunFolder(path).save(Checkpoint(Position(), state))
    _, other = backbone_weights(str(path))
    assert one != other


@pytest.mark.engine
@pytest.mark.parametrize("rule", ["bp", "fa"])
def test_a_keras_runs_weights_are_its_networks_by_torchvisions_names(run: Run, rule: str):
    pytest.importorskip("antiparallel.keras", exc_type=ImportError)
    pytest.importorskip("keras_hub", exc_type=ImportError)
    import keras

    from antiparallel.benchmarks.models.resnet18 import keras_to_torch, read_keras
    from antiparallel.benchmarks.steppers.keras3 import build

    recipe = RECIPES[f"imagenette/resnet18-{rule}"].model_copy(update={"size": 32, "threads": 1})
    stepper = build(recipe, 3, digits())
    chance = np.random.default_rng(0)
    for variable in stepper._model.variables:
        variable.assign(chance.normal(size=variable.shape).astype(np.float32))
    arrays, source = backbone_weights(
        str(run(stepper.state(), "keras", engine=keras.config.backend()))
    )
    expected = keras_to_torch(read_keras(stepper._model))
    assert len(arrays) == 20 + 4 * 20
    for name, array in arrays.items():
        assert (array == expected[name]).all(), name
    assert "keras" in source


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where torchvision keeps the file that it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    return path


def test_torchvisions_weights_are_had_by_their_name(downloaded: Path):
    state = resnet18()
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, downloaded)
    arrays, source = backbone_weights("IMAGENET1K_V1")
    assert len(arrays) == 20 + 4 * 20
    for name, array in arrays.items():
        assert (array == state[name]).all()
    assert source.startswith("torchvision ResNet18_Weights.IMAGENET1K_V1, sha256 ")


def test_a_file_of_weights_that_holds_a_program_is_refused(downloaded: Path):
    torch.save({"conv1.weight": Path("/")}, downloaded)
    with pytest.raises(SpecError, match=r"Received: backbone='IMAGENET1K_V1'"):
        backbone_weights("IMAGENET1K_V1")


def test_other_names_are_refused_with_those_that_there_are():
    with pytest.raises(SpecError, match=r"IMAGENET1K_V1.*Received: backbone='IMAGENET22K'"):
        backbone_weights("IMAGENET22K")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "stopped"}, r"Received: a stopped run of a resnet18"),
        ({"recipe": "imagenet/alexnet-bp"}, r"Received: a complete run of a alexnet"),
    ],
)
def test_runs_that_are_not_complete_or_of_another_network_are_refused(
    run: Run, changes: dict[str, Any], expected: str
):
    path = run(resnet18("model."), **changes)
    with pytest.raises(SpecError, match=expected):
        backbone_weights(str(path))


def test_a_run_without_a_checkpoint_is_refused(run: Run):
    with pytest.raises(SpecError, match=r"Expected a run with a checkpoint"):
        backbone_weights(str(run(None)))


def test_a_checkpoint_that_lacks_a_layer_is_refused_by_its_name(run: Run):
    state = resnet18("model.")
    del state["model.layer3.0.downsample.0.weight"]
    with pytest.raises(SpecError, match=r"without layer3\.0\.downsample\.0\.weight"):
        backbone_weights(str(run(state)))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(SpecError, match=r"Expected a run's folder"):
        backbone_weights(str(tmp_path))
