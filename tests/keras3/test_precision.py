"""Training in mixed precision: computed in 16 bits, kept in 32."""

from typing import Any

import keras
import numpy as np
import pytest

import antiparallel.keras as ap

from .conftest import COMPILED, array, numbers


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("how", COMPILED, ids=str)
def test_fit_in_mixed_precision_moves_every_kernel(policy: str, how: dict[str, Any]) -> None:
    layers = [
        keras.Input((8, 8, 2)),
        ap.Conv2D(4, 3, rule="ss", seed=0, dtype=policy, activation="relu"),
        keras.layers.Flatten(dtype=policy),
        ap.Dense(3, rule="fa", seed=1, dtype=policy),
    ]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=ap.SGD(1e-2), loss=loss, **how)
    before = [array(weight) for weight in model.trainable_weights]
    losses = model.fit(numbers(8, 8, 8, 2), np.arange(8) % 3, epochs=3, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert keras.backend.standardize_dtype(weight.dtype) == "float32"
        assert np.isfinite(array(weight)).all()
        assert not np.array_equal(array(weight), old)
