"""The adapter through which the conformance suite sees this backend."""

from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest

from antiparallel.spec import RULES, Conv, ConvTranspose, Dense, SpecError, as_rule
from antiparallel.spec.contract import Backend, Network, SGDConfig, Weighted
from antiparallel.spec.reference import backend as reference
from antiparallel.torch.contract import backend

GEOMETRIES = [
    Dense(4, 3),
    Conv(2, 4, (3,), stride=2, padding="same"),
    Conv(2, 4, (3, 2), padding=((0, 1), (2, 0)), groups=2),
    Conv(2, 4, (2, 2), padding="same"),
    Conv(2, 4, (3, 3), padding="same", dilation=2),
    ConvTranspose(2, 4, (3, 3), stride=2, padding=((0, 1), (2, 0)), output_padding=1),
    ConvTranspose(2, 4, (3,), stride=2, padding="valid", groups=2),
]


def arrays(geometry: Any) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(0)
    rank = 0 if isinstance(geometry, Dense) else geometry.rank
    return (
        generator.standard_normal(geometry.weight_shape),
        generator.standard_normal(geometry.n_out),
        generator.standard_normal((2, geometry.n_in, *(6, 5, 5)[:rank])),
    )


def test_the_entry_point_names_a_backend() -> None:
    (entry,) = entry_points(group="antiparallel.backends", name="torch")
    assert entry.load() is backend
    assert isinstance(backend, Backend)
    assert backend.unsupported == {}


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_a_layer_answers_as_the_reference(geometry: Any, rule: str) -> None:
    weight, bias, x = arrays(geometry)
    own, expected = (
        b.layer(geometry, weight, bias, rule, seed=3, index=2) for b in (backend, reference)
    )
    error = np.cos(np.arange(own.forward(x).size)).reshape(own.forward(x).shape)
    for _ in range(2):
        assert np.array_equal(own.feedback(), expected.feedback())
        results = zip(own.backward(x, error), expected.backward(x, error), strict=True)
        for one, other in results:
            assert np.allclose(one, other, rtol=0, atol=1e-12)  # float64, at most 100 products
        for layer in (own, expected):
            layer.set_weight(-weight)
    copied = backend.layer(geometry, weight, bias, rule, seed=3, index=2)
    copied.load_state(own.state())
    assert np.array_equal(copied.feedback(), own.feedback())
    assert np.array_equal(copied.forward(x), own.forward(x))


def test_initial_weights_are_the_references() -> None:
    for geometry in GEOMETRIES:
        for dtype in (np.dtype("float32"), np.dtype("float64")):
            own, expected = (
                b.initial_weight(geometry, dtype, seed=1, index=4) for b in (backend, reference)
            )
            assert own.dtype == dtype
            assert np.array_equal(own, expected)


def test_training_follows_the_reference() -> None:
    network = Network(
        (
            Weighted(Conv(1, 4, (3, 3), padding="same"), as_rule("ss")),
            "relu",
            Weighted(Conv(4, 4, (3, 3), stride=2, padding="same"), as_rule("ss-batch")),
            "relu",
            "flatten",
            Weighted(Dense(36, 5), as_rule("fa"), scale="reference-code"),
        )
    )
    generator = np.random.default_rng(0)
    batches = [
        (generator.standard_normal((8, 1, 6, 6)), generator.integers(0, 5, 8)) for _ in range(20)
    ]
    config = SGDConfig(lr=0.05, momentum=0.9, weight_decay=1e-3, keep_signs=True)
    own, expected = (b.train(network, batches, config, seed=5) for b in (backend, reference))
    assert np.allclose(own.losses, expected.losses, rtol=0, atol=1e-9)
    for one, other in zip(
        own.weights + own.biases, expected.weights + expected.biases, strict=True
    ):
        assert np.allclose(one, other, rtol=0, atol=1e-9)


def test_the_optimizer_excludes_exactly_the_biases_that_are_named() -> None:
    parameters = {"vector": np.array([1.0]), "bias": np.array([[1.0]])}
    optimizer = backend.sgd(SGDConfig(lr=2.0, keep_signs=True), parameters, ["bias"])
    after = optimizer.step({name: np.ones_like(value) for name, value in parameters.items()})
    assert after["vector"] == 1e-10
    assert after["bias"] == -1


def train_on(x: Any, labels: Any) -> None:
    network = Network((Weighted(Dense(4, 3), as_rule("bp")),))
    backend.train(network, [(x, labels)], SGDConfig(lr=1.0))


@pytest.mark.parametrize(
    "call",
    [
        lambda layer: layer.forward(np.ones((2, 5))),
        lambda layer: layer.forward(np.ones((2, 4), np.float32)),
        lambda layer: layer.backward(np.ones((2, 4)), np.ones((2, 4))),
        lambda layer: layer.set_weight(np.ones((4, 3))),
        lambda layer: layer.set_weight(np.ones((3, 4), np.float32)),
        lambda layer: layer.load_state({}),
        lambda layer: layer.load_state({**layer.state(), "feedback": np.ones((4, 3))}),
        lambda layer: layer.load_state({**layer.state(), "magnitude": np.ones((3, 4))}),
        lambda _: backend.layer(Dense(4, 3), np.ones((4, 3)), None, "fa"),
        lambda _: backend.layer(Dense(4, 3), np.ones((3, 4)), None, "hebb"),
        lambda _: backend.sgd(SGDConfig(lr=1.0), {"w": np.ones(2)}, ["b"]),
        lambda _: backend.sgd(SGDConfig(lr=1.0), {"w": np.ones(2)}, []).step({"v": np.ones(2)}),
        lambda _: backend.sgd(SGDConfig(lr=1.0), {"w": np.ones(2)}, []).step({"w": np.ones(3)}),
        lambda _: backend.train(Network(()), [], SGDConfig(lr=1.0)),
        lambda _: train_on(np.ones((2, 4)), np.array([0, 3])),
        lambda _: train_on(np.ones((2, 4)), np.array([0, 1, 2])),
        lambda _: train_on(np.ones((2, 4)), np.array([0.0, 1.0])),
        lambda _: train_on(np.ones((0, 4)), np.zeros(0, np.int64)),
        lambda _: train_on(np.ones((2, 5)), np.array([0, 1])),
    ],
)
def test_what_does_not_fit_is_a_spec_error(call: Any) -> None:
    layer = backend.layer(Dense(4, 3), np.ones((3, 4)), np.ones(3), "fa")
    before = layer.state()
    with pytest.raises(SpecError, match="Received: "):
        call(layer)
    for name, value in layer.state().items():
        assert np.array_equal(value, before[name])
