"""Takes steps on several virtual devices, and writes what they say to each other as JSON.

Used by test_keras_devices.py, in a process that JAX has not begun in.
"""

import json
from typing import Any

import keras

import antiparallel.keras as ap
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.keras3 import build, collectives, joined
from antiparallel.benchmarks.speed.keras3_collectives import collective_operations
from antiparallel.benchmarks.speed.keras3_networks import VIT_B16
from antiparallel.benchmarks.speed.pictures import random_pictures
from antiparallel.benchmarks.steppers.keras3_devices import spread

RULES = ("plain", "ss", "fa", "ss-fixed")


def case(parts: int) -> Case:
    settings: dict[str, Any] = {"way": "devices", "parts": parts} if parts > 1 else {}
    return Case(model="convnet", batch=8, pixels=8, width=4, depth=2, threads=1, **settings)


def transformer() -> Case:
    """Return a case of a network from KerasHub, a small one."""
    VIT_B16.update(num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
    return Case(model="vit", batch=2, pixels=16, threads=1, way="devices", parts=2)


def losses(parts: int) -> list[float]:
    found = []
    with joined(case(parts)):
        contender = build(case(parts), "ss")
        for _ in range(3):
            contender.step()
            found.append(contender.loss)
            contender.update()
        images, _ = contender.batches[0]
        assert len(images.sharding.device_set) == parts
    return found


def without_normalization(rule: str) -> dict[str, int]:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    if rule != "plain":
        ap.convert(model, rule)
    optimizer = keras.optimizers.SGD()
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=True)
    images, labels, _ = random_pictures(case(2))
    return collective_operations(model, spread(images), spread(labels))


class ShardedFeedback(keras.distribution.DataParallel):
    """What must be caught: each device has a part of B, which the others then need."""

    def get_variable_layout(self, variable: Any) -> Any:
        layout = super().get_variable_layout(variable)
        if "feedback" not in variable.path or len(variable.shape) != 4:
            return layout
        axes = (None, None, None, self.batch_dim_name)
        return keras.distribution.TensorLayout(axes, self.device_mesh)


def main() -> None:
    found: dict[str, Any] = {"losses": [losses(parts) for parts in (4, 2, 1)]}
    with joined(case(2)):
        found["normalized"] = {rule: collectives(case(2), rule) for rule in RULES}
        found["bare"] = {rule: without_normalization(rule) for rule in RULES}
        found["hub"] = {rule: collectives(transformer(), rule) for rule in ("plain", "ss")}
    devices = keras.distribution.list_devices("cpu")[:2]
    with ShardedFeedback(devices=devices, auto_shard_dataset=False).scope():
        found["sharded"] = collectives(case(2), "fa")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
