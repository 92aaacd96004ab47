"""Chapter T: whole training runs, and how they start."""

import numpy as np

from antiparallel.conformance import tolerance, training
from antiparallel.conformance.arrays import Dtype
from antiparallel.conformance.cases import TrainingCase
from antiparallel.conformance.expectations import expect_array, expect_close, expect_equal
from antiparallel.conformance.registry import check
from antiparallel.spec import RULES, Conv, Dense, Geometry
from antiparallel.spec.contract import Array, Backend, Network, SGDConfig, Trajectory, Weighted
from antiparallel.spec.initialization import initial_weight
from antiparallel.spec.rules import Backprop
from antiparallel.spec.trainer import train

_CASES = {
    dtype: tuple(TrainingCase(rule, dtype) for rule in RULES) for dtype in ("float64", "float32")
}
_STILL = SGDConfig(lr=0.0)


def _require_parity(backend: Backend, case: TrainingCase) -> None:
    network = training.network(case.rule)
    batches = training.batches(case.dtype)
    observed = backend.train(network, batches, training.CONFIG, seed=training.SEED)
    expected = training.expected(case.rule, case.dtype)
    call = f"train(network under {case.rule}, 200 batches of digits, {training.CONFIG})"
    why = "the reference's, within what rounding explains"
    losses = np.asarray(observed.losses)
    expect_close(
        losses, expected.run.losses, expected.losses, "float64", what="loss", why=why, call=call
    )
    _require_arrays(observed.weights, expected.run.weights, expected.weights, "weight", case, call)
    _require_arrays(observed.biases, expected.run.biases, expected.biases, "bias", case, call)


def _require_arrays(
    observed: tuple[Array, ...],
    expected: tuple[Array, ...],
    tolerances: tuple[float, ...],
    what: str,
    case: TrainingCase,
    call: str,
) -> None:
    for layer, (array, allowed) in enumerate(zip(expected, tolerances, strict=True)):
        expect_close(
            observed[layer],
            array.astype(np.float64),
            np.full(array.shape, allowed),
            case.dtype,
            what=f"final {what} of layer {layer}, ",
            why="the reference's, within what rounding explains",
            call=call,
        )


@check("T5", case=_CASES["float64"])
def check_training_in_float64(backend: Backend, case: TrainingCase) -> None:
    """200 steps on real digits give the reference's loss at every step, and its weights."""
    _require_parity(backend, case)


@check("T5", case=_CASES["float32"])
def check_training_in_float32(backend: Backend, case: TrainingCase) -> None:
    """The same in float32, at the tolerance that float32 explains."""
    _require_parity(backend, case)


def _train(backend: Backend, network: Network, x: Array, config: SGDConfig) -> Trajectory:
    return backend.train(network, [(x, _labels(len(x)))], config, seed=5)


def _labels(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(count) % 3


def _inputs(shape: tuple[int, ...], dtype: Dtype = "float32") -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@check("T1", dtype=("float32",))
def check_training_starts_from_initial_weights(backend: Backend, dtype: Dtype) -> None:
    """Weight layer number i starts from the initial weights of index i."""
    geometries: tuple[Geometry, ...] = (Conv(1, 2, (2, 2)), Dense(4, 5), Dense(5, 3))
    first, second, last = (Weighted(geometry, Backprop()) for geometry in geometries)
    network = Network((first, "relu", "flatten", second, "relu", last))
    found = _train(backend, network, _inputs((2, 1, 3, 2), dtype), _STILL)
    for index, geometry in enumerate(geometries):
        expect_equal(
            found.weights[index],
            initial_weight(geometry, np.dtype(dtype), seed=5, index=index),
            what=f"weight of layer {index}, ",
            why=f"the initial weights of index {index}",
            call="train(network, batches, SGDConfig(lr=0.0), seed=5)",
        )


@check("I2")
def check_biases_start_at_zero(backend: Backend) -> None:
    """Before the first update every bias is zero."""
    network = Network((Weighted(Dense(4, 3), Backprop()),))
    found = _train(backend, network, _inputs((3, 4)), _STILL).biases[0]
    call = "train(network, batches, SGDConfig(lr=0.0), seed=5)"
    zeros = np.zeros(3, np.float32)
    expect_equal(found, zeros, what="bias", why="zero at the start", call=call)


@check("T2", size=(1.0, 1000.0))
def check_loss_is_softmax_cross_entropy(backend: Backend, size: float) -> None:
    """The loss is softmax cross-entropy averaged over the batch, also for large outputs."""
    network = Network((Weighted(Dense(4, 3), Backprop()),))
    x = (size * _inputs((6, 4))).astype(np.float32)
    found = _train(backend, network, x, _STILL)
    exact = train(network, [(x.astype(np.float64), _labels(6))], _STILL, seed=5)
    weight = found.weights[0].astype(np.float64)
    largest = np.max(abs(x.astype(np.float64)) @ abs(weight.T), axis=1).mean()
    # Outputs are sums of 4 products and a bias, the loss is a mean over 6 of sums over 3 classes.
    allowed = tolerance.of_sum("float32", 5 + 6 + 3, 2 * np.array([largest + 2]))
    call = f"train(dense network, one batch of numbers of about {size}, SGDConfig(lr=0.0))"
    why = "-mean(log softmax(z)[label])"
    expect_close(found.losses, exact.losses, allowed, "float64", what="loss", why=why, call=call)


@check("T3")
def check_relu_has_no_derivative_at_zero(backend: Backend) -> None:
    """The derivative of ReLU at 0 is 0: units that are exactly 0 send nothing back."""
    first, last = (Weighted(Dense(3, 3), Backprop()) for _ in range(2))
    network = Network((first, "relu", last))
    found = _train(backend, network, np.zeros((3, 3), np.float32), SGDConfig(lr=1.0)).biases[0]
    call = "train(dense, relu, dense; one batch of zeros)"
    zeros = np.zeros(3, np.float32)
    expect_equal(found, zeros, what="bias below ReLU", why="zero: no error came", call=call)


@check("T4")
def check_flatten_is_in_c_order(backend: Backend) -> None:
    """Flattening puts channels first, then the spatial dimensions, the last running fastest."""
    first, last = Weighted(Conv(1, 2, (1, 1)), Backprop()), Weighted(Dense(12, 3), Backprop())
    network = Network((first, "flatten", last))
    x = _inputs((1, 1, 2, 3))
    found = _train(backend, network, x, SGDConfig(lr=1.0))
    call = "train(convolution, flatten, dense; one batch)"
    expect_array(found.weights[1], (3, 12), "float32", what="weight", call=call)
    exact = train(network, [(x.astype(np.float64), _labels(1))], SGDConfig(lr=1.0), seed=5)
    # An update of a dense weight: error < 1 times an activation, after 1 product and a softmax.
    size = np.full((3, 12), 2 + 4 * float(abs(x).max()))
    expect_close(
        found.weights[1],
        exact.weights[1],
        tolerance.of_sum("float32", 12 + 3 + 8, size),
        "float32",
        what="weight",
        why="flattened in C order",
        call=call,
    )
