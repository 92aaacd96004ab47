"""Runs one of the two RetinaNets and writes down what it computed.

Used by test_retinanet.py, as ``python retinanet_driver.py torch|keras FOLDER``, so that frameworks
never share a process. ``torch`` goes first: it leaves its start in FOLDER, as the state of a
converted torchvision model, and ``keras`` begins there, on the engine that KERAS_BACKEND names, and
writes to that engine's folder in it.
"""

import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from resnet18_driver import keeps_float64
from sklearn.datasets import load_sample_images

from antiparallel.benchmarks.models.retinanet import RETINANET

SIZE, CLASSES, ANCHOR_SIZE, SUBNET_SCALE, SEED = 160, 3, 1.0, 0.01, 5
RULES = ("bp", "ss", "fa", "ss-fixed")
WRITTEN = "ss-fixed"
"""The rule under which Keras begins with torch's arrays instead of its own draws."""
MUTATED = ("ss", "fa")
"""Rules that are also got wrong in one place, to see that it shows."""
MUTANT = "backbone.fpn.inner_blocks.2.0"
"""The layer that is given backprop there."""


class Run(NamedTuple):
    """What is compared: gradients in float64, where the engine keeps it.

    In float32 rectifiers tip over by rounding alone, and all gradients below them with them.

    Args:
        rule: The learning rule.
        dtype: Of weights and arithmetic.
        frozen: Whether the backbone's normalisation is.
    """

    rule: str
    dtype: str = "float64"
    frozen: bool = True

    def __str__(self) -> str:
        return f"{self.rule}-{self.dtype}-{'frozen' if self.frozen else 'trained'}"


RUNS = (
    *(Run(rule) for rule in RULES),
    Run("fa", frozen=False),
    Run("bp", "float32", frozen=False),
    Run("fa", "float32", frozen=False),
)

LAST_LAYERS = ("head.classification_head.cls_logits", "head.regression_head.bbox_reg")
NOWHERE = (-1e4 - 1, -1e4 - 1, -1e4, -1e4)
CERTAIN = 40.0
"""A bias of one class, under backprop: all anchors but its own are wrong by as many nats."""

OBJECTS: tuple[tuple[tuple[int, tuple[float, ...]], ...], ...] = (
    ((0, (10, 12, 22, 24)), (2, (60, 60, 151, 149.5)), (1, (58, 64, 150, 151))),
    (),
    ((1, (3, 90, 60, 158)),),
)
"""Class and place of the objects of each picture."""

Found = dict[str, np.ndarray]


def pictures() -> np.ndarray:
    """Crops of the two photographs in scikit-learn, ``(batch, size, size, 3)``."""
    photographs = np.stack(load_sample_images().images).astype(np.float64) / 127.5 - 1
    crops = ((0, 100, 100), (1, 20, 300), (1, 200, 200))
    return np.stack([photographs[n, y : y + SIZE, x : x + SIZE] for n, y, x in crops])


def targets(most: int = 4, pictures: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and boxes of some pictures, filled up to the most objects of a picture."""
    objects = OBJECTS[pictures]
    labels = np.full((len(objects), most), -1)
    boxes = np.tile(np.array(NOWHERE, np.float32), (len(objects), most, 1))
    for picture, found in enumerate(objects):
        for number, (label, box) in enumerate(found):
            labels[picture, number], boxes[picture, number] = label, box
    return labels, boxes


def answers(pictures: int, anchors: int, dtype: str = "float32") -> Found:
    """Return outputs of no network: some objects in each picture, and equal scores among them."""
    chance = np.random.Generator(np.random.Philox(7))
    logits = chance.normal(-6, 2, (pictures, anchors, CLASSES))
    logits[:, ::50] = logits[:, :1]
    deltas = chance.normal(0, 0.5, (pictures, anchors, 4))
    deltas[:, ::11] *= 10  # past what is believed of a side, and out of the picture
    found = {"cls_logits": logits, "bbox_regression": deltas}
    return {name: array.astype(dtype) for name, array in found.items()}


def padded_losses(losses: Any) -> Found:
    """Return the losses of the same pictures with more and fewer rows without an object."""
    one, all_three = slice(0, 1), slice(None)
    return {
        "exactly": losses(one, *targets(3, one)),
        "one": losses(one, *targets(6, one)),
        "four": losses(all_three, *targets(4)),
        "nine": losses(all_three, *targets(9)),
    }


def torch_run(run: Run, mutant: Mapping[str, str] | None = None) -> Found:
    """Return start, outputs, losses, gradients; of another rule in one place, if asked for."""
    import torch

    import antiparallel.torch as ap
    from antiparallel.benchmarks.models.pytorch_retinanet import build_retinanet, start_subnets

    rule, dtype, frozen = run
    model = build_retinanet(CLASSES, ANCHOR_SIZE, frozen)
    last = {} if rule == "bp" else dict.fromkeys(LAST_LAYERS, "bp")
    ap.convert(model, rule=rule, overrides=last | dict(mutant or {}), seed=SEED)
    ap.initialize(model, scale="paper", seed=SEED)
    start_subnets(model, SUBNET_SCALE, SEED)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    found = digests(state)
    if rule == "bp":
        with torch.no_grad():
            model.head.classification_head.cls_logits.bias[::CLASSES] = CERTAIN
    model.to(getattr(torch, dtype))
    if rule == WRITTEN:
        found |= {
            f"start/{name}": value.numpy().copy() for name, value in model.state_dict().items()
        }
    images = torch.from_numpy(pictures().transpose(0, 3, 1, 2)).to(getattr(torch, dtype))
    labels, boxes = (torch.from_numpy(array) for array in targets())
    model.eval()
    outputs = {name: value.detach() for name, value in model(images).items()}
    found |= {f"outputs/{name}": value.numpy() for name, value in outputs.items()}
    losses = model.picture_losses(SIZE, outputs, labels, boxes)
    found |= {f"losses/{name}": value.numpy() for name, value in losses.items()}
    model.train()
    losses = model.picture_losses(SIZE, model(images), labels, boxes)
    loss = sum(value.mean() for value in losses.values())
    assert isinstance(loss, torch.Tensor)
    torch.autograd.backward(loss)
    found |= {f"step/{name}": value.mean().detach().numpy() for name, value in losses.items()}
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        found[f"gradient/{name}"] = weight.grad.numpy()
    return found


def digests(state: Mapping[str, np.ndarray]) -> Found:
    """Return a checksum of each array's bits."""
    return {
        f"drawn/{name}": np.array(sha256(np.ascontiguousarray(array).tobytes()).hexdigest())
        for name, array in state.items()
    }


def differences(found: Found, expected: Mapping[str, np.ndarray]) -> Found:
    """Return how far gradients are from others, by their norm."""
    apart = {}
    for name in found:
        if name.startswith("gradient/"):
            ours, theirs = found[name], expected[name]
            assert ours.shape == theirs.shape, name
            apart[name] = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    return apart


def torch_pieces() -> Found:
    """Return anchors, losses and detections of outputs that no network gave."""
    import torch

    from antiparallel.benchmarks.models.pytorch_retinanet import build_retinanet

    model = build_retinanet(CLASSES, ANCHOR_SIZE, frozen=True)
    anchors = [level.numpy() for level in model.anchors(SIZE)]
    outputs = answers(len(OBJECTS), sum(map(len, anchors)))
    tensors = {name: torch.from_numpy(array) for name, array in outputs.items()}

    def losses(which: slice, labels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        some = {name: tensor[which] for name, tensor in tensors.items()}
        found = model.picture_losses(SIZE, some, torch.from_numpy(labels), torch.from_numpy(boxes))
        return np.stack([loss.numpy() for loss in found.values()])

    found = {f"anchors/{level}": array for level, array in enumerate(anchors)}
    found |= {f"padded/{name}": loss for name, loss in padded_losses(losses).items()}
    for picture, rows in enumerate(model.detections(SIZE, tensors)):
        found[f"detections/{picture}"] = np.array(rows)
    return found


def keras_model(rule: str, frozen: bool) -> Any:
    import antiparallel.keras as ap
    from antiparallel.benchmarks.models.keras3_retinanet import build_retinanet

    model = build_retinanet(SIZE, CLASSES, ANCHOR_SIZE, frozen)
    names = RETINANET.layers
    last = {} if rule == "bp" else {f"*{names[layer]}": "bp" for layer in LAST_LAYERS}
    ap.convert(model, rule=rule, overrides=last, seed=SEED)
    return model


def keras_run(run: Run, start: Found) -> Found:
    """Return the same of KerasHub's RetinaNet, gradients by torchvision's names and layouts."""
    import keras

    import antiparallel.keras as ap

    rule, dtype, frozen = run
    keras.config.set_dtype_policy(dtype)
    keras.config.set_floatx(dtype)
    model = keras_model(rule, frozen)
    found: Found = {}
    if rule == WRITTEN:
        RETINANET.write_keras(model, RETINANET.torch_to_keras(start))
    else:
        draw(model)
        drawn = {name: x.astype(np.float32) for name, x in RETINANET.read_keras(model).items()}
        RETINANET.write_keras(model, drawn)
        found |= digests(RETINANET.keras_to_torch(drawn))
    if rule == "bp":
        bias = model.classification_head.prediction_layer.bias
        rare = keras.ops.convert_to_numpy(bias).copy()
        rare[::CLASSES] = CERTAIN
        bias.assign(rare)
    optimizer = ap.SGD(learning_rate=1e-4, momentum=0.9)
    optimizer.build(model.trainable_variables)
    # One run as users' are; the others without the time that graphs take
    eager = keras.config.backend() == "tensorflow" and dtype == "float64"
    model.compile(optimizer=optimizer, run_eagerly=eager)
    images, (labels, boxes) = pictures().astype(dtype), targets()
    outputs = model.predict_on_batch(images)
    found |= {f"outputs/{name}": np.array(array) for name, array in outputs.items()}
    losses = model.picture_losses(images, outputs, labels, boxes)
    found |= {f"losses/{name}": keras.ops.convert_to_numpy(value) for name, value in losses.items()}
    logs = model.train_on_batch(images, {"labels": labels, "boxes": boxes}, return_dict=True)
    found |= {f"step/{name}": np.array(value) for name, value in logs.items()}
    names = {id(variable): name for name, variable in RETINANET.keras_variables(model)}
    gradients = {
        names[id(variable)]: keras.ops.convert_to_numpy(velocity)
        for variable, velocity in zip(model.trainable_variables, optimizer.velocities, strict=True)
    }
    for name, gradient in RETINANET.keras_to_torch(gradients).items():
        found[f"gradient/{name}"] = np.array(gradient)
    return found


def draw(model: Any) -> None:
    import antiparallel.keras as ap
    from antiparallel.benchmarks.models.keras3_retinanet import start_subnets

    ap.initialize(model, scale="paper", seed=SEED)
    RETINANET.number_as_torchvision(model, "paper", SEED)
    start_subnets(model, SUBNET_SCALE, SEED)


def keras_pieces() -> Found:
    """Return anchors, losses and detections of outputs that no network gave, and first biases."""
    import keras
    from keras import ops
    from keras_hub.models import RetinaNetObjectDetector

    model = keras_model("fa", frozen=True)
    images = ops.zeros((1, SIZE, SIZE, 3))
    levels = model.anchor_generator(images).values()
    anchors = [ops.convert_to_numpy(level) for level in levels]
    outputs = answers(len(OBJECTS), sum(map(len, anchors)))

    def losses(which: slice, labels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        some = {name: array[which] for name, array in outputs.items()}
        found = model.picture_losses(images, some, labels, boxes)
        return np.stack([ops.convert_to_numpy(loss) for loss in found.values()])

    found = {f"anchors/{level}": array for level, array in enumerate(anchors)}
    found |= {f"padded/{name}": loss for name, loss in padded_losses(losses).items()}
    for picture, rows in enumerate(model.detections(outputs)):
        found[f"detections/{picture}"] = np.array(rows)
    upstream = RetinaNetObjectDetector(
        model.backbone,
        CLASSES,
        bounding_box_format="xyxy",
        anchor_generator=model.anchor_generator,
    )
    for name, detector in (("upstream", upstream), ("ours", model)):
        for head in ("classification_head", "box_head"):
            bias = getattr(detector, head).prediction_layer.bias
            found[f"bias/{name}/{head}"] = ops.convert_to_numpy(bias)
    found["frozen"] = np.array(
        [
            weight.shape[-1]
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
            for weight in layer.trainable_weights
        ]
    )
    return found


def main() -> None:
    framework, folder = sys.argv[1], Path(sys.argv[2])
    run_torch(folder) if framework == "torch" else run_keras(folder)


def run_torch(folder: Path) -> None:
    np.savez(folder / "torch-pieces.npz", **torch_pieces())
    for run in RUNS:
        found = torch_run(run)
        np.savez(folder / f"torch-{run}.npz", **found)
        if run.frozen and run.rule in MUTATED:
            mutant = torch_run(run, {MUTANT: "bp"})
            np.savez(folder / f"mutant-{run.rule}.npz", **differences(mutant, found))


def run_keras(folder: Path) -> None:
    import keras

    own = folder / keras.backend.backend()
    np.savez(own / "keras-pieces.npz", **keras_pieces())
    for run in RUNS:
        if run.dtype == "float64" and not keeps_float64():
            continue
        expected = np.load(folder / f"torch-{run}.npz")
        start = {
            name.removeprefix("start/"): expected[name]
            for name in expected.files
            if name.startswith("start/")
        }
        found = keras_run(run, start)
        np.savez(own / f"keras-{run}.npz", **(found | differences(found, expected)))


if __name__ == "__main__":
    main()
