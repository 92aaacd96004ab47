"""Models that others made: keras.applications and KerasHub, small and with random weights."""

import keras
import keras_hub
import numpy as np
import pytest
from keras_hub.src.models.retinanet.retinanet_label_encoder import RetinaNetLabelEncoder

import antiparallel.keras as ap

APPLICATIONS = ("MobileNetV3Small", "EfficientNetB0", "ConvNeXtTiny", "ResNet50V2")


def pixels(size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).random((1, size, size, 3)).astype("float32")


def resnet(size: int) -> keras.Model:
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64, 64, 64],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(size, size, 3),
    )


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_weight_layer_of_an_application_is_converted(name: str) -> None:
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(64, 64, 3), classes=3)
    before = model.predict(pixels(64), verbose=0)
    ap.convert(model, "ss")
    assert all(row.converted for row in ap.summary(model).rows)
    np.testing.assert_array_equal(model.predict(pixels(64), verbose=0), before)


@pytest.mark.parametrize("name", ["MobileNetV3Small"])
def test_every_error_in_an_application_goes_through_b(name: str) -> None:
    make = getattr(keras.applications, name)
    model = ap.convert(make(weights=None, input_shape=(32, 32, 3), classes=3), "ss")
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
