"""SGD: the specification's updates are checked by the suite; here, what is Keras's."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import antiparallel.keras as ap
from antiparallel.spec import SGDConfig, SpecError, sgd

from .conftest import array, compiled, numbers, pictures, small_model

SETTINGS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9, "weight_decay": 0.1},
    {"momentum": 0.9, "nesterov": True},
    {"batch_manhattan": True, "momentum": 0.5},
    {"keep_signs": True, "weight_decay": 0.1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_updates_are_the_reference_s(settings: dict[str, Any]) -> None:
    start = numbers(3, 4)
    variable = keras.Variable(start)
    optimizer = ap.SGD(0.5, **settings)
    optimizer.build([variable])
    reference = sgd.SGD(SGDConfig(lr=0.5, **settings), {"w": start.astype("float64")})
    for step in range(4):
        gradient = numbers(3, 4, seed=step + 1)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        expected = reference.step({"w": gradient.astype("float64")})["w"]
        np.testing.assert_allclose(array(variable), expected, rtol=1e-5, atol=1e-6)


def test_keep_signs_leaves_biases_unless_all_are_asked_for() -> None:
    for keep, crosses in ((True, True), ("all", False)):
        bias = keras.Variable(np.array([0.5], "float32"))
        optimizer = ap.SGD(1.0, keep_signs=keep)
        optimizer.build([bias])
        optimizer.apply([keras.ops.ones((1,))])
        assert (array(bias)[0] < 0) == crosses


def test_schedules_are_followed() -> None:
    variable = keras.Variable(np.zeros(1, "float32"))
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.5])
    optimizer = ap.SGD(schedule)
    optimizer.build([variable])
    for expected in (-1.0, -2.0, -2.5):
        optimizer.apply([keras.ops.ones((1,))])
        assert array(variable)[0] == expected


def test_a_saved_optimizer_goes_on_exactly(tmp_path: Path) -> None:
    x, y = pictures()
    model = compiled(ap.convert(small_model(), "ss"))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for other in (model, again):
        other.train_on_batch(x, y)
    for mine, others in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(array(mine), array(others))


@pytest.mark.parametrize(
    ("settings", "received"),
    [
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"learning_rate": None}, "learning_rate=None"),
        ({"momentum": float("nan")}, "momentum=nan"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"nesterov": True}, "momentum=0"),
        ({"keep_signs": "some"}, "keep_signs='some'"),
        ({"batch_manhattan": 1}, "batch_manhattan=1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], received: str) -> None:
    with pytest.raises(SpecError, match=received):
        ap.SGD(**settings)
