"""torchvision's RetinaNet and KerasHub's are one network, with the same losses and gradients.

Keras runs on each engine that is installed.
"""

import shutil
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from retinanet_driver import (
    ANCHOR_SIZE,
    CLASSES,
    LAST_LAYERS,
    MUTATED,
    OBJECTS,
    RUNS,
    SIZE,
    WRITTEN,
    Run,
    answers,
)

from antiparallel.benchmarks.models.detector import PRIOR, anchor_sizes
from antiparallel.benchmarks.models.retinanet import RETINANET
from antiparallel.benchmarks.models.suppression import detected
from antiparallel.spec import SpecError

from .conftest import ENGINES, BothLibraries

pytest.importorskip("torchvision", exc_type=ImportError)
pytest.importorskip("antiparallel.torch", exc_type=ImportError)

LONGEST_SUM = 512 * 9
"""Terms in the longest sums: a 3x3 convolution of 512 channels. Each sum may be wrong by as many
roundings, and PyTorch and Keras add in different orders."""

EPS = float(np.finfo(np.float32).eps)

Found = dict[str, np.ndarray]
Load = Callable[[str], Found]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothLibraries]:
    """Run torchvision's network."""
    folder = tmp_path_factory.mktemp("retinanet")
    yield BothLibraries("retinanet_driver.py", folder)
    shutil.rmtree(folder)  # large


@pytest.fixture(scope="module", params=ENGINES)
def found(both: BothLibraries, request: pytest.FixtureRequest) -> Load:
    """Run KerasHub's network on an engine."""
    return both.on(request.param)


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_both_give_the_same_outputs_and_losses(found: Load, run: Run):
    torch, keras = found(f"torch-{run}"), found(f"keras-{run}")
    names = [name for name in torch if name.startswith(("outputs/", "losses/", "step/"))]
    assert len(names) == 6
    for name in names:
        # KerasHub encodes boxes in float32; the slope of the distance does not depend on it
        dtype = "float32" if name.endswith("/regression") else run.dtype
        apart = np.linalg.norm(keras[name] - torch[name])
        tolerance = LONGEST_SUM * float(np.finfo(dtype).eps)
        assert apart <= tolerance * np.linalg.norm(torch[name]), name
    total = sum(torch[f"step/{part}"] for part in ("classification", "regression"))
    assert keras["step/loss"] == pytest.approx(total, rel=LONGEST_SUM * EPS)


@pytest.mark.parametrize("run", [run for run in RUNS if run.dtype == "float64"], ids=str)
def test_both_give_the_same_gradients(found: Load, run: Run):
    keras = found(f"keras-{run}")
    gradients = [name for name in keras if name.startswith("gradient/")]
    # Kernels, the biases of pyramid and subnets, gamma and beta
    assert len(gradients) == 38 + 18 + (0 if run.frozen else 2 * 20)
    for name in gradients:
        assert keras[name] <= LONGEST_SUM * float(np.finfo(np.float64).eps), name


@pytest.mark.parametrize("run", [run for run in RUNS if run.dtype == "float32"], ids=str)
def test_gradients_of_the_last_layers_are_the_same_in_float32_too(found: Load, run: Run):
    keras = found(f"keras-{run}")
    for layer in LAST_LAYERS:
        for variable in ("weight", "bias"):
            assert keras[f"gradient/{layer}.{variable}"] <= LONGEST_SUM * EPS


@pytest.mark.parametrize("rule", MUTATED)
def test_a_rule_that_is_wrong_in_one_layer_gives_other_gradients(found: Load, rule: str):
    assert max(found(f"mutant-{rule}").values()) > 0.1


@pytest.mark.parametrize("run", [run for run in RUNS if run.rule != WRITTEN], ids=str)
def test_weights_and_feedback_are_drawn_the_same_to_the_bit(found: Load, run: Run):
    torch, keras = found(f"torch-{run}"), found(f"keras-{run}")
    names = [name for name in keras if name.startswith("drawn/")]
    feedback = [name for name in names if name.endswith("feedback")]
    assert len(names) == 38 + 18 + 4 * 20 + len(feedback)
    assert len(feedback) == (36 if run.rule == "fa" else 0)
    for name in names:
        assert keras[name] == torch[name], name


def test_anchors_are_the_same_and_those_of_the_paper(found: Load):
    torch, keras = found("torch-pieces"), found("keras-pieces")
    for level, expected in enumerate(anchors()):
        assert (torch[f"anchors/{level}"] == expected).all()
        assert (keras[f"anchors/{level}"] == expected).all()


@pytest.mark.parametrize("library", ["torch", "keras"])
def test_rows_without_an_object_change_no_bit_of_the_losses(found: Load, library: str):
    losses = found(f"{library}-pieces")
    assert (losses["padded/exactly"] == losses["padded/one"]).all()
    assert (losses["padded/four"] == losses["padded/nine"]).all()
    assert losses["padded/four"].shape == (2, len(OBJECTS))


@pytest.mark.parametrize("library", ["torch", "keras"])
def test_losses_are_focal_loss_and_distance_of_encoded_boxes(found: Load, library: str):
    boxes = np.concatenate(anchors())
    outputs = answers(len(OBJECTS), len(boxes), "float32")
    losses = found(f"{library}-pieces")["padded/four"]
    for picture, objects in enumerate(OBJECTS):
        one = {name: array[picture].astype(np.float64) for name, array in outputs.items()}
        expected = expected_losses(boxes, one["cls_logits"], one["bbox_regression"], objects)
        # One rounding of each term, small ones too: 1 - p_t is off by EPS, and its square counts
        assert losses[:, picture] == pytest.approx(expected, rel=len(boxes) * CLASSES * EPS)
    assert losses[1, 1] == 0  # no objects
    assert losses[0, 1] > 0


@pytest.mark.parametrize("picture", range(len(OBJECTS)))
def test_detections_are_torchvisions(found: Load, picture: int):
    torch, keras = found("torch-pieces"), found("keras-pieces")
    expected = torch[f"detections/{picture}"]
    outputs = answers(len(OBJECTS), sum(map(len, anchors())))
    levels = [level.astype(np.float32) for level in anchors()]
    one = outputs["cls_logits"][picture], outputs["bbox_regression"][picture]
    ours = np.array(detected(*one, levels, SIZE))
    assert len(expected) == 100
    assert (ours == keras[f"detections/{picture}"]).all()
    assert (np.diff(ours[:, 4]) <= 0).all()
    # Pixels of at most SIZE, after an exponential, a product and a sum
    assert ours[by_place(ours)] == pytest.approx(expected[by_place(expected)], abs=8 * SIZE * EPS)


def test_keras_hub_gives_the_boxes_the_bias_of_rare_classes_and_we_give_it_back(found: Load):
    """Fails when KerasHub mends it: then ``keras3_retinanet._make_classes_rare`` can go."""
    biases = found("keras-pieces")
    rare = -np.log((1 - PRIOR) / PRIOR)
    assert biases["bias/upstream/box_head"] == pytest.approx(rare, rel=EPS * 4)
    assert (biases["bias/upstream/classification_head"] == 0).all()
    assert biases["bias/ours/classification_head"] == pytest.approx(rare, rel=EPS * 4)
    assert (biases["bias/ours/box_head"] == 0).all()


def test_a_frozen_backbone_has_no_normalisation_to_learn(found: Load):
    assert found("keras-pieces")["frozen"].size == 0


def test_the_mappings_are_each_others_inverse_and_refuse_strangers():
    chance = np.random.default_rng(0)
    state = {
        "backbone.body.layer2.0.downsample.0.feedback": chance.normal(size=(128, 64, 1, 1)),
        "backbone.body.bn1.running_var": chance.normal(size=64),
        "backbone.fpn.inner_blocks.2.0.weight": chance.normal(size=(256, 512, 1, 1)),
        "backbone.fpn.extra_blocks.p7.bias": chance.normal(size=256),
        "head.classification_head.conv.3.0.magnitude": chance.normal(size=(256, 256, 3, 3)),
        "head.regression_head.bbox_reg.bias": chance.normal(size=36),
    }
    mapped = RETINANET.torch_to_keras(state)
    assert {name: array.shape for name, array in mapped.items()} == {
        "stack1_block0_0_conv/feedback": (1, 1, 64, 128),
        "conv1_bn/moving_variance": (64,),
        "fpn/lateral_conv_P5/kernel": (1, 1, 512, 256),
        "fpn/coarser_P7/bias": (256,),
        "classification_head/conv2d_3/magnitude": (3, 3, 256, 256),
        "box_head/logits_layer/bias": (36,),
    }
    back = RETINANET.keras_to_torch(mapped)
    assert back.keys() == state.keys()
    assert all((back[name] == state[name]).all() for name in state)
    with pytest.raises(SpecError, match=r"Received: fc\.weight"):
        RETINANET.torch_to_keras({"fc.weight": np.zeros((1, 1))})


def test_anchors_without_an_area_are_refused():
    with pytest.raises(SpecError, match=r"Received: anchor_size=0\.2"):
        anchor_sizes(0.2)


def anchors() -> list[np.ndarray]:
    """Return each level's anchors: three sizes in each of three ratios, at each cell."""
    levels = []
    for level in range(3, 8):
        cells = -(-SIZE // 2**level)
        shapes = []
        for ratio in (0.5, 1.0, 2.0):
            for scale in range(3):
                side = int(2**level * ANCHOR_SIZE * 2 ** (scale / 3))
                w, h = side / ratio**0.5, side * ratio**0.5
                shapes.append(np.round(np.array([-w, -h, w, h]) / 2))
        steps = np.arange(cells) * (SIZE // cells)
        corners = np.array([(x, y, x, y) for y in steps for x in steps])
        levels.append((corners[:, None] + np.array(shapes)).reshape(-1, 4))
    return levels


def expected_losses(
    anchors: np.ndarray,
    logits: np.ndarray,
    deltas: np.ndarray,
    objects: tuple[tuple[int, tuple[float, ...]], ...],
) -> tuple[float, float]:
    """Return a picture's losses, from Lin et al. (2017), sections 3 and 4."""
    sides = anchors[:, 2:] - anchors[:, :2]
    overlaps = np.zeros((len(anchors), max(1, len(objects))))
    for number, (_, box) in enumerate(objects):
        low, high = np.maximum(anchors[:, :2], box[:2]), np.minimum(anchors[:, 2:], box[2:])
        shared = (high - low).clip(0).prod(1)
        area = (box[2] - box[0]) * (box[3] - box[1])
        overlaps[:, number] = shared / (sides.prod(1) + area - shared)
    best, nearest = overlaps.max(1), overlaps.argmax(1)
    targets, distance = np.zeros_like(logits), 0.0
    positive = best >= 0.5
    for anchor in np.flatnonzero(positive):
        label, box = objects[nearest[anchor]]
        targets[anchor, label] = 1
        low, high = np.array(box[:2]), np.array(box[2:])
        shift = ((low + high) / 2 - (anchors[anchor, :2] + anchors[anchor, 2:]) / 2) / sides[anchor]
        growth = np.log((high - low) / sides[anchor])
        distance += np.abs(deltas[anchor] - np.concatenate([shift, growth])).sum()
    p = 1 / (1 + np.exp(-logits))
    p_t = np.where(targets == 1, p, 1 - p)
    focal = -np.where(targets == 1, 0.25, 0.75) * (1 - p_t) ** 2 * np.log(p_t)
    counted = positive | (best < 0.4)
    matches = max(1, positive.sum())
    return focal[counted].sum() / matches, distance / matches


def by_place(rows: np.ndarray) -> np.ndarray:
    """Return an order of rows that does not depend on which of equal scores comes first."""
    return np.lexsort((*rows[:, :4].round(1).T, rows[:, 5], -rows[:, 4].round(6)))
