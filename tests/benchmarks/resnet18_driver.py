"""Trains one of the two ResNet-18 for some steps and writes down what it computed.

Used by test_resnet18.py, as ``python resnet18_driver.py torch|keras FOLDER``, so that frameworks
never share a process. ``torch`` goes first: it leaves its start in FOLDER, as the state of a
converted torchvision model, and ``keras`` begins there, on the engine that KERAS_BACKEND names, and
writes to that engine's folder in it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_sample_images

EARLY = 5  # steps in which rounding has not grown yet
STEPS, BATCH, SIZE, LR, MOMENTUM = 20, 6, 48, 1e-4, 0.9
RULES = ("ss", "fa")
EPS = float(np.finfo(np.float32).eps)
SAMPLES = 6
MUTANTS: dict[str, dict[str, Any]] = {
    "one layer by backprop": {"overrides": {"layer3.0.conv1": "bp"}},
    "the shortcuts by backprop": {"overrides": {"*.downsample.0": "bp"}},
    "the last layer's lambda by another convention": {"scale": "paper"},
}
"""Rules that are wrong in one place."""


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Crops of the two photographs in scikit-learn, ``(steps, batch, 3, size, size)``."""
    photographs = np.stack(load_sample_images().images).astype(np.float64) / 127.5 - 1
    chance = np.random.Generator(np.random.Philox(11))
    labels = chance.integers(2, size=(STEPS, BATCH))
    corners = chance.integers([427 - SIZE, 640 - SIZE], size=(STEPS, BATCH, 2))
    crops = [
        photographs[label, y : y + SIZE, x : x + SIZE]
        for label, (y, x) in zip(labels.ravel(), corners.reshape(-1, 2), strict=True)
    ]
    images = np.stack(crops).transpose(0, 3, 1, 2)
    return images.reshape(STEPS, BATCH, 3, SIZE, SIZE), labels


def torch_run(
    rule: str,
    dtype: str,
    *,
    nudged: int = 0,
    mutant: Mapping[str, Any] | None = None,
    steps: int = STEPS,
) -> dict[str, np.ndarray]:
    """Return start, logits, first gradients and losses.

    Args:
        rule: The learning rule.
        dtype: Of weights and arithmetic.
        nudged: Moves each weight by one of float32's roundings, up or down by chance, which this
            seeds; 0 moves none.
        mutant: Arguments that make the conversion a wrong one.
        steps: Training steps.
    """
    import torch
    import torchvision

    import antiparallel.torch as ap

    model = torchvision.models.resnet18(num_classes=2)
    ap.convert(model, rule=rule, **{"scale": "reference-code", "seed": 5} | dict(mutant or {}))
    ap.initialize(model, scale="reference-code", seed=5)
    model.to(getattr(torch, dtype))
    if nudged:
        chance = torch.Generator().manual_seed(nudged)
        with torch.no_grad():
            for weight in model.parameters():
                weight *= 1 + EPS * (torch.randint(2, weight.shape, generator=chance) * 2 - 1)
    start = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    optimizer = ap.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    model.eval()
    images, labels = (torch.from_numpy(array) for array in pictures())
    images = images.to(getattr(torch, dtype))
    found = {f"start/{name}": value for name, value in start.items()}
    found["logits"] = model(images[0]).detach().numpy()
    model.train()
    losses = []
    for step in range(steps):
        loss = torch.nn.functional.cross_entropy(model(images[step]), labels[step])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 0:
            for name, weight in model.named_parameters():  # the first velocity is the gradient
                velocity = optimizer.state[weight]["momentum_buffer"]
                found[f"gradient/{name}"] = velocity.numpy().copy()
    return found | {"losses": np.array(losses)}


def keras_run(rule: str, dtype: str, start: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the same of KerasHub's ResNet-18, gradients by torchvision's names and layouts."""
    import keras
    import keras_hub

    import antiparallel.keras as ap
    from antiparallel.benchmarks.models import resnet18

    keras.config.set_dtype_policy(dtype)
    keras.config.set_floatx(dtype)
    backbone = keras_hub.models.ResNetBackbone(
        image_shape=(SIZE, SIZE, 3), **resnet18.KERAS_HUB_RESNET18
    )
    model = keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=2)
    ap.convert(
        model, rule=rule, scale="reference-code", seed=1
    )  # feedback too comes from the other model
    resnet18.write_keras(model, resnet18.torch_to_keras(start))
    optimizer = ap.SGD(learning_rate=LR, momentum=MOMENTUM)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=[])
    images, labels = pictures()
    images = images.transpose(0, 1, 3, 4, 2).astype(dtype)
    found: dict[str, Any] = {"logits": np.array(model.predict_on_batch(images[0]))}
    losses = []
    for step in range(STEPS):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(images[step], labels[step])))
        if step == 0:
            names = {id(variable): name for name, variable in resnet18.keras_variables(model)}
            gradients = {
                names[id(variable)]: keras.ops.convert_to_numpy(velocity)
                for variable, velocity in zip(
                    model.trainable_variables, optimizer.velocities, strict=True
                )
            }
            for name, gradient in resnet18.keras_to_torch(gradients).items():
                found[f"gradient/{name}"] = np.array(gradient)
    end = resnet18.keras_to_torch(resnet18.read_keras(model))
    found |= {f"end/{name}": value for name, value in end.items() if "feedback" in name}
    return found | {"losses": np.array(losses)}


def main() -> None:
    framework, folder = sys.argv[1], Path(sys.argv[2])
    run_torch(folder) if framework == "torch" else run_keras(folder)


def run_torch(folder: Path) -> None:
    for rule in RULES:
        for dtype in ("float32", "float64"):
            np.savez(folder / f"torch-{rule}-{dtype}.npz", **torch_run(rule, dtype))
        losses = {"nudged": torch_run(rule, "float64", nudged=1)["losses"]}
        for sample in range(1, SAMPLES + 1):
            losses[f"sample {sample}"] = torch_run(rule, "float32", nudged=sample)["losses"]
        for name, mutant in MUTANTS.items():
            losses[name] = torch_run(rule, "float32", mutant=mutant, steps=EARLY)["losses"]
        np.savez(folder / f"losses-{rule}.npz", **losses)


def run_keras(folder: Path) -> None:
    import keras

    own = folder / keras.backend.backend()
    for dtype in ("float32", "float64")[: 1 + keeps_float64()]:
        for rule in RULES:
            found = np.load(folder / f"torch-{rule}-{dtype}.npz")
            start = {
                name.removeprefix("start/"): found[name]
                for name in found.files
                if name.startswith("start/")
            }
            np.savez(own / f"keras-{rule}-{dtype}.npz", **keras_run(rule, dtype, start))


def keeps_float64() -> bool:
    """Return whether Keras normalises a batch of float64 numbers in float64.

    On torch and on JAX (3.15) it does so in float32, whatever the layer's dtype.
    """
    import keras

    x = np.random.default_rng(0).normal(size=(8, 3))
    y = keras.layers.BatchNormalization(epsilon=2.0**-10, dtype="float64")(x, training=True)
    exact = (x - x.mean(0)) / np.sqrt(x.var(0) + 2.0**-10)
    return bool(abs(keras.ops.convert_to_numpy(y) - exact).max() < 1e-12)


if __name__ == "__main__":
    main()
