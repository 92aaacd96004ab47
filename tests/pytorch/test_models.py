"""Every model that torchvision builds, and timm's ViT: converted or explained, and proved."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.regnet import BlockParams

import antiparallel.torch as ap
from antiparallel.torch.layers import FEEDBACK_LAYERS

CLASSIFIERS = models.list_models(module=models)
DETECTORS = models.list_models(module=models.detection)

# The smallest member of each family, with the smallest image that it takes.
SMALLEST = {
    "alexnet": 64,
    "vgg11": 32,
    "resnet18": 32,
    "squeezenet1_1": 64,
    "densenet121": 32,
    "inception_v3": 75,
    "googlenet": 32,
    "shufflenet_v2_x0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "resnext50_32x4d": 32,
    "wide_resnet50_2": 32,
    "mnasnet0_5": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "regnet_y_400mf": 32,
    "regnet_x_400mf": 32,
    "vit_b_32": 32,
    "convnext_tiny": 32,
    "swin_t": 32,
    "swin_v2_t": 64,
    "maxvit_t": 224,
}
IMAGE_SIZES = {"vit": 32, "maxvit": 224, "swin_v2": 64, "alexnet": 64, "squeezenet": 64}
IMAGE_SIZES |= {"inception": 75}

USED_BEHIND_THE_BACK = {
    "vit": "MultiheadAttention.forward",
    "swin_v2": "ShiftedWindowAttentionV2.forward",
    "swin": "ShiftedWindowAttention.forward",
}


def options(name: str) -> dict[str, Any]:
    """Return arguments that avoid downloads and needless work, and keep images small."""
    if name in ("googlenet", "inception_v3"):
        return {"weights": None, "init_weights": False, "aux_logits": name == "googlenet"}
    if name.startswith("vit"):
        return {"weights": None, "image_size": 32 if name != "vit_h_14" else 28}
    if name in DETECTORS:
        size = {} if name.startswith("ssd") else {"min_size": 64, "max_size": 64}
        boxes = {"box_batch_size_per_image": 16, "rpn_post_nms_top_n_train": 50}
        return {
            "weights": None,
            "weights_backbone": None,
            **size,
            **(boxes if "rcnn" in name else {}),
        }
    return {"weights": None}


def by_prefix(table: dict[str, Any], name: str) -> Any:
    """Return the entry for the longest prefix of a name, or None."""
    return next((table[k] for k in sorted(table, key=len)[::-1] if name.startswith(k)), None)


@contextmanager
def _on_meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    widths = BlockParams.from_init_params

    def computed(*args: Any, **kwargs: Any) -> Any:
        with torch.device("cpu"):  # RegNet computes its widths with tensors
            return widths(*args, **kwargs)

    monkeypatch.setattr(BlockParams, "from_init_params", computed)
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("name", CLASSIFIERS + DETECTORS)
def test_every_weight_layer_is_converted_or_explained(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _on_meta(monkeypatch):
        model = models.get_model(name, **options(name))
    plain = {
        key: type(module)
        for key, module in model.named_modules()
        if isinstance(module, tuple(FEEDBACK_LAYERS))
    }
    keys = list(model.state_dict())
    table = ap.summary(ap.convert(model, "ss"))
    assert list(model.state_dict()) == keys
    reader = by_prefix(USED_BEHIND_THE_BACK, name)
    for key, kind in plain.items():
        row = table[key]
        if row.converted:
            assert type(model.get_submodule(key)) is FEEDBACK_LAYERS[kind]
        else:
            assert type(model.get_submodule(key)) is kind
            assert reader is not None
            assert f"its weight is read by {reader}" in row.reason
    assert all(row.converted or row.reason for row in table.rows)
    assert reader is None or sum(reader in row.reason for row in table.rows) > 0


def detection_batch(classes: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    target = {
        "boxes": torch.tensor([[4.0, 4.0, 40.0, 44.0], [20.0, 20.0, 60.0, 60.0]]),
        "labels": torch.tensor([1, min(2, classes - 1)]),
        "masks": torch.ones(2, 64, 64, dtype=torch.uint8),
        "keypoints": torch.tensor([[10.0, 10.0, 1.0]]).expand(2, 17, 3),
    }
    return images, [target, target]


def prove(name: str, rule: str = "ss") -> None:
    """Convert a model with real weights and verify every layer reported as converted."""
    model = models.get_model(name, **options(name))
    for head in model.modules():
        if isinstance(head, nn.Linear) and not head.weight.any():
            nn.init.normal_(head.weight)  # ViT starts its head at zero, where B = W = 0
    ap.convert(model, rule)
    converted = [row.name for row in ap.summary(model).rows if row.converted]
    if name in DETECTORS:
        calls = ap.verify(model, *detection_batch(2 if "keypoint" in name else 91))
    else:
        size = SMALLEST.get(name) or by_prefix(IMAGE_SIZES, name) or 32
        size = 28 if name == "vit_h_14" else size
        calls = ap.verify(model, torch.randn(1 if size > 200 else 2, 3, size, size))
    assert list(calls) == converted
    assert all(calls.values())


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_of_each_family_sends_every_error_through_b(name: str) -> None:
    prove(name)


@pytest.mark.parametrize(
    "name", [name for name in DETECTORS if "v2" not in name and name != "ssd300_vgg16"]
)
def test_detection_models_send_every_error_through_b(name: str) -> None:
    prove(name)


@pytest.mark.parametrize("rule", ["ss-fixed", "ss-batch", "fa", "fa-sign"])
def test_a_resnet_under_every_rule_sends_every_error_through_b(rule: str) -> None:
    prove("resnet18", rule)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS + DETECTORS)
def test_every_model_sends_every_error_through_b(name: str) -> None:
    prove(name)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("vit_tiny_patch16_224", lambda name: timm.create_model(name, img_size=32)),
        ("resnet10t", timm.create_model),
        ("deit_tiny_distilled_patch16_224", lambda name: timm.create_model(name, img_size=32)),
    ],
)
def test_timms_models_send_every_error_through_b(
    name: str, build: Callable[[str], nn.Module]
) -> None:
    model = ap.convert(build(name), "ss", overrides={"*": "fa"})
    table = ap.summary(model)
    weight_layers = [
        key for key, module in model.named_modules() if isinstance(module, tuple(FEEDBACK_LAYERS))
    ]
    assert [row.name for row in table.rows if row.converted] == weight_layers
    assert list(ap.verify(model, torch.randn(2, 3, 32, 32))) == weight_layers
