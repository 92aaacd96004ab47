"""KerasHub's RetinaNet with a ResNet-18, its losses and detections made torchvision's."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from keras_hub.layers import AnchorGenerator
from keras_hub.models import RetinaNetBackbone, RetinaNetObjectDetector

from antiparallel.benchmarks.models.correspondence import Arrays
from antiparallel.benchmarks.models.detector import (
    ALPHA,
    ASPECT_RATIOS,
    GAMMA,
    LEVELS,
    PRIOR_BIAS,
    SCALES,
    anchor_sizes,
)
from antiparallel.benchmarks.models.keras3 import draw_anew, resnet18_backbone
from antiparallel.benchmarks.models.retinanet import BACKBONE, RETINANET
from antiparallel.benchmarks.models.suppression import detected
from antiparallel.keras.inventory import weight_layers

Outputs = Mapping[str, Any]


class RetinaNet(RetinaNetObjectDetector):
    """KerasHub's RetinaNet with the losses of torchvision's, of each picture by itself.

    KerasHub divides a batch's losses by its positive anchors in all, and leaves out batches that
    have none. Its focal loss clips probabilities, so that anchors which are wrong by more than
    16 nats learn nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In full precision whatever the network computes in, else pixels are rounded to 8 bits
        encoder = self.label_encoder
        for layer in (encoder, encoder.box_matcher, encoder.anchor_generator):
            layer.dtype_policy = keras.config.floatx()
        self.parts = {
            name: keras.metrics.Mean(name=name) for name in ("classification", "regression")
        }

    def compile(self, optimizer: str | keras.optimizers.Optimizer = "sgd", **kwargs: Any) -> None:
        """Configure training; see ``keras.Model.compile``. The losses are always these."""
        keras.Model.compile(self, optimizer=optimizer, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Make one update; see ``keras.Model``. KerasHub's takes no dictionary as a target."""
        return keras.Model.train_on_batch(self, *args, **kwargs)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the mean over the pictures of both losses; see ``picture_losses``."""
        losses = self.picture_losses(x, y_pred, y["labels"], y["boxes"])
        for name, part in self.parts.items():
            part.update_state(losses[name])
        return sum(ops.mean(loss) for loss in losses.values())

    def predict_step(self, *args: Any) -> Any:
        """Return the network's outputs, of which ``detections`` makes objects."""
        return keras.Model.predict_step(self, *args)

    def picture_losses(
        self, images: Any, outputs: Outputs, labels: Any, boxes: Any
    ) -> dict[str, Any]:
        """Return the losses of each picture, ``(batch,)``, each divided by its positive anchors.

        ``"classification"`` is the focal loss, summed over anchors and classes;
        ``"regression"`` the L1 distance of the encoded boxes, summed over the four coordinates
        and the positive anchors.

        Args:
            images: The pictures, ``(batch, size, size, 3)``, for their size.
            outputs: What the network returned for them.
            labels: The class of each object, ``(batch, most)``, -1 where there is none.
            boxes: Where they are, ``(batch, most, 4)``: left, top, right, bottom in pixels; out
                of the picture and of positive size where there is none.
        """
        places, classes = self.label_encoder(images, boxes, labels)
        dtype = keras.config.floatx()
        positive = ops.cast(classes >= 0, dtype)
        counted = ops.cast(classes != self.label_encoder.ignore_class, dtype)
        logits = ops.cast(outputs["cls_logits"], dtype)
        targets = ops.one_hot(ops.cast(classes, "int32"), self.num_classes, dtype=dtype)
        focal = ops.sum(_focal_loss(targets, logits), axis=2)
        deltas = ops.cast(outputs["bbox_regression"], dtype)
        distance = ops.sum(ops.abs(deltas - ops.cast(places, dtype)), axis=2)
        matches = ops.maximum(ops.sum(positive, axis=1), 1)
        return {
            "classification": ops.sum(focal * counted, axis=1) / matches,
            "regression": ops.sum(distance * positive, axis=1) / matches,
        }

    def detections(self, outputs: Outputs) -> list[list[list[float]]]:
        """Return what is found in each picture.

        KerasHub's own suppression takes each anchor for its best class only, and lets objects of
        one class suppress another's.

        Args:
            outputs: What the network returned for the pictures.

        Returns:
            For each picture a row for each object, best first: left, top, right, bottom in
            pixels, score, class.
        """
        size = self.input_shape[1]
        levels = self.anchor_generator(ops.zeros((1, size, size, 3))).values()
        anchors = [ops.convert_to_numpy(level) for level in levels]
        logits, deltas = (
            ops.convert_to_numpy(ops.cast(outputs[name], "float32"))
            for name in ("cls_logits", "bbox_regression")
        )
        return [detected(*found, anchors, size) for found in zip(logits, deltas, strict=True)]


def start_subnets(model: RetinaNet, scale: float, seed: int) -> None:
    """Draw the subnets' weights and feedback anew by another lambda, and make classes rare.

    Args:
        model: The model, converted or not, and initialised by the specification.
        scale: lambda in the subnets.
        seed: The experiment's seed; layers have torchvision's numbers in the whole model.
    """
    order = list(RETINANET.layers.values())
    for found in weight_layers(model):
        if found.name in order:
            draw_anew(found.module, scale, (seed, order.index(found.name)))
    _make_classes_rare(model)


def _make_classes_rare(model: RetinaNet) -> None:
    """Give the class logits their first bias, which KerasHub gives to the boxes instead."""
    for head, bias in ((model.classification_head, PRIOR_BIAS), (model.box_head, 0.0)):
        variable = head.prediction_layer.bias
        variable.assign(np.full(variable.shape, bias))


def _focal_loss(targets: Any, logits: Any) -> Any:
    """Return torchvision's focal loss of each anchor and class, in its order of operations."""
    p = ops.sigmoid(logits)
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    # keras.losses.BinaryFocalCrossentropy clips p to [1e-7, 1 - 1e-7], which has no slope there.
    cross_entropy = ops.binary_crossentropy(targets, logits, from_logits=True)
    return alpha_t * (cross_entropy * (1 - p_t) ** GAMMA)


def write_backbone(model: RetinaNet, arrays: Arrays) -> None:
    """Give the backbone the weights of ``models.backbone.backbone_weights``."""
    variables = dict(RETINANET.keras_variables(model))
    named = {f"{BACKBONE}{name}": array for name, array in arrays.items()}
    for name, array in RETINANET.torch_to_keras(named).items():
        variables[name].assign(array)


def build_retinanet(size: int, classes: int, anchor_size: float, frozen: bool) -> RetinaNet:
    """Build a RetinaNet with a ResNet-18, of which all layers learn.

    Args:
        size: Height and width of the pictures.
        classes: Classes, without one for the background.
        anchor_size: The side of a level's smallest anchors, in strides of the level.
        frozen: Whether the backbone's batch normalisation is a constant, as weights that were
            trained elsewhere need it; else it is trained.
    """
    anchor_sizes(anchor_size)  # KerasHub computes them itself, and refuses none
    encoder = resnet18_backbone(size)
    for layer in encoder.layers:
        if frozen and isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    backbone = RetinaNetBackbone(
        image_encoder=encoder,
        min_level=LEVELS[0],
        max_level=LEVELS[-1],
        use_p5=False,
        image_shape=(size, size, 3),
        name="pyramid",
    )
    model = RetinaNet(
        backbone,
        classes,
        bounding_box_format="xyxy",
        anchor_generator=AnchorGenerator(
            "xyxy",
            min_level=LEVELS[0],
            max_level=LEVELS[-1],
            num_scales=SCALES,
            aspect_ratios=list(ASPECT_RATIOS),
            anchor_size=anchor_size,
        ),
    )
    _make_classes_rare(model)
    return model
