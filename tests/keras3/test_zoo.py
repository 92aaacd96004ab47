"""Models that others made: keras.applications and KerasHub, small and with random weights."""

from typing import Any

import keras
import keras_hub
import numpy as np
import pytest
from keras_hub.src.models.retinanet.retinanet_label_encoder import RetinaNetLabelEncoder

import antiparallel.keras as ap

from .conftest import array


def architectures() -> dict[str, list[str]]:
    """Return the names in keras.applications by the module that builds them, smallest first."""
    found: dict[str, list[str]] = {}
    for name, make in vars(keras.applications).items():
        if name[0].isupper() and callable(make):
            found.setdefault(make.__module__, []).append(name)
    small = ("Tiny", "Small", "Mobile", "B0")
    return {
        module: sorted(names, key=lambda name: (not any(s in name for s in small), name))
        for module, names in found.items()
    }


FIRST = [names[0] for names in architectures().values()]
if ap.ENGINE == "jax":  # which compiles every operation for every shape: seven minutes for all
    FIRST = [name for name in FIRST if name in ("MobileNetV3Small", "EfficientNetB0", "Xception")]
OTHERS = [name for names in architectures().values() for name in names if name not in FIRST]
APPLICATIONS = [*FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
"""One of every module, and the others, which differ in depth and width."""


def application(name: str) -> keras.Model:
    """Return an application with random weights, for the smallest pictures that it takes."""
    for size in (32, 75, 96):
        try:
            return getattr(keras.applications, name)(
                weights=None,
                input_shape=(size, size, 3),
                classes=3,
                classifier_activation=None,  # softmax may saturate, and then sends no error back
            )
        except ValueError as error:
            if "not available with the torch backend" in str(error):
                pytest.skip(f"Keras has no {name} on torch")
    raise AssertionError(f"{name} takes no small pictures")


def pixels(size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).random((1, size, size, 3)).astype("float32")


def resnet(size: int, **changes: Any) -> keras.Model:
    settings: dict[str, Any] = {"block_type": "basic_block"}
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64, 64, 64],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        image_shape=(size, size, 3),
        **settings | changes,
    )


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_weight_layer_of_an_application_is_converted(name: str) -> None:
    model = application(name)
    x = pixels(model.input_shape[1])
    before = array(model(x))
    ap.convert(model, "ss")
    rows = ap.summary(model).rows
    assert rows
    assert all(row.converted for row in rows)
    np.testing.assert_array_equal(array(model(x)), before)


@pytest.mark.parametrize(
    "name",
    ["MobileNetV3Small", "VGG16"]
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in [*FIRST, *OTHERS]
        if name not in ("MobileNetV3Small", "VGG16")
    ],
)
def test_every_error_in_an_application_goes_through_b(name: str) -> None:
    model = ap.convert(application(name), "ss")
    rows = ap.summary(model).rows  # two of a separable convolution
    layers = {
        row.name.removesuffix("/depthwise_kernel").removesuffix("/pointwise_kernel") for row in rows
    }
    assert len(ap.verify(model, pixels(model.input_shape[1]))) == len(layers)


@pytest.mark.parametrize("pre_activation", [False, True])
@pytest.mark.parametrize("block", ["basic_block", "bottleneck_block"])
def test_every_error_in_a_resnet_backbone_goes_through_b(block: str, pre_activation: bool) -> None:
    model = resnet(32, block_type=block, use_pre_activation=pre_activation)
    before = array(model(pixels(32)))
    ap.convert(model, "ss")
    np.testing.assert_array_equal(array(model(pixels(32))), before)
    assert len(ap.verify(model, pixels(32))) == len(ap.summary(model).rows)


def test_every_error_in_a_retinanet_with_its_pyramid_and_heads_goes_through_b() -> None:
    backbone = keras_hub.models.RetinaNetBackbone(
        image_encoder=resnet(64), min_level=3, max_level=5, use_p5=False, image_shape=(64, 64, 3)
    )
    anchors = keras_hub.layers.AnchorGenerator("xyxy", 3, 5, 3, [0.5, 1.0, 2.0], 4.0)
    model = keras_hub.models.RetinaNetObjectDetector(
        backbone=backbone,
        num_classes=3,
        bounding_box_format="xyxy",
        anchor_generator=anchors,
        label_encoder=RetinaNetLabelEncoder(anchors, "xyxy"),
        pre_logits_num_conv_layers=2,
    )
    ap.convert(model, "ss")
    calls = ap.verify(model, pixels(64))
    assert len(calls) == len(ap.summary(model).rows)
    assert {count for name, count in calls.items() if "head" in name} == {3}  # once per level
