"""The proof, at run time, that a model's errors go back through B."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from antiparallel.keras.engines import engine
from antiparallel.keras.inventory import weight_layers
from antiparallel.keras.layers import FEEDBACK_LAYERS, FeedbackLayer
from antiparallel.keras.layout import kernels
from antiparallel.spec import Backprop, SpecError, fan_out

_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


class FeedbackError(AssertionError):
    """A layer that is reported as converted did not send its error through B."""


@dataclass(frozen=True)
class _Call:
    """One call of a layer: the shapes of what entered and of what came before the activation."""

    entering: tuple[int, ...]
    leaving: tuple[int, ...]
    dtype: str


def verify(model: keras.layers.Layer, *args: Any, **kwargs: Any) -> dict[str, int]:
    """Prove that every converted layer sends its error through B, on one forward and backward.

    Zeros are added to what enters and to what leaves each call of a layer. Their gradients are
    the error that the call sends and the one that arrives at it; the first is compared with the
    derivative of Keras's own layer with B in the place of W, for the second. A layer's variables
    are constants while it runs, so a gradient that reaches them comes from a use outside of its
    calls. Variables and counts are as before afterwards.

    Args:
        model: A converted model, or one built of ``antiparallel.keras`` layers.
        *args: What the model is called with.
        **kwargs: Keyword arguments of the call.

    Returns:
        For each layer, by name, how many of its calls were compared.

    Raises:
        SpecError: No layer has a rule.
        FeedbackError: A layer's error was not computed with B; a layer was not called, or no
            error arrived at it, so that nothing is proved; or its variables were used without
            calling it. Names every such layer.

    Tolerance: of a sum of n products, ``|B|^T |dy|`` being the sum of their absolute values a,
    ``8 (sqrt(n) u a + u' (|dx| + a / sqrt(n)))``: the probabilistic bound of Higham and Mary
    (2019), "A new approach to probabilistic rounding error analysis", for sums with unit roundoff
    u, and the rounding of results and partial sums, a random walk of size ``a / sqrt(n)``, to
    the error's dtype's u'. Narrow dtypes are summed in float32.
    """
    layers = {
        found.name: found.module
        for found in weight_layers(model)
        if isinstance(found.module, FeedbackLayer) and not found.obstacle
    }
    if not layers:
        raise SpecError(
            f"Expected a model with layers that follow a rule. Received: {type(model).__name__}"
        )

    calls: dict[str, list[_Call]] = {name: [] for name in layers}
    with keras.StatelessScope(), _recording(layers, calls):  # in it no variable changes
        model(*args, **kwargs)
    shapes = [
        (shape, call.dtype)
        for made in calls.values()
        for call in made
        for shape in (call.entering, call.leaving)
    ]
    zeros = [ops.zeros(shape, dtype=dtype) for shape, dtype in shapes]
    matrices = {
        name: [_matrices(layer, len(made) - 1 - n) for n in range(len(made))]
        for (name, layer), made in zip(layers.items(), calls.values(), strict=True)
    }
    variables = _own_variables(model, layers)
    values = [engine.as_tensor(variable) for variable in variables]

    def loss(*inputs: Any) -> Any:
        added, given = inputs[: len(zeros)], inputs[len(zeros) :]
        with (
            keras.StatelessScope(list(zip(variables, given, strict=True))) as scope,
            _adding(layers, calls, added, scope),
        ):
            return _loss(model(*args, **kwargs))

    with _counts_as_before(layers):
        _, gradients = engine.pullback(loss, [*zeros, *values], ops.ones_like)
    used = zip(variables, gradients[len(zeros) :], strict=True)
    used_outside = {id(variable) for variable, gradient in used if _numpy(gradient).any()}
    pairs = iter(zip(gradients[0 : len(zeros) : 2], gradients[1 : len(zeros) : 2], strict=True))
    problems, compared = {}, {}
    for name, layer in layers.items():
        made = [(*next(pairs), matrices[name][n]) for n in range(len(calls[name]))]
        problems[name], compared[name] = _problem(layer, made)
        outside = [own.name for own in _own(layer) if id(own) in used_outside]
        if outside:
            problems[name] = f"its {' and '.join(outside)} took part outside of its calls"
    if any(problems.values()):
        lines = [f"{name or '(model)'}: {text}" for name, text in problems.items() if text]
        raise FeedbackError(
            "Expected every error to go back through B. Received:\n" + "\n".join(lines)
        )
    return compared


@contextmanager
def _recording(layers: dict[str, Any], calls: dict[str, list[_Call]]) -> Iterator[None]:
    """Record the shapes of every call of the layers."""

    def entered(name: str, x: Any) -> Any:
        return x

    def left(name: str, x: Any, y: Any) -> Any:
        dtype = keras.backend.standardize_dtype(y.dtype)
        calls[name].append(_Call(tuple(x.shape), tuple(y.shape), dtype))
        return y

    with _observed(layers, entered, left):
        yield


@contextmanager
def _adding(
    layers: dict[str, Any],
    calls: dict[str, list[_Call]],
    added: Sequence[Any],
    scope: keras.StatelessScope,
) -> Iterator[None]:
    """Add a tensor to what enters each call, and one before its activation.

    In between, the layer's variables are constants if the scope has values for them.
    """
    pairs = iter(zip(added[0::2], added[1::2], strict=True))
    waiting = {name: [next(pairs) for _ in made] for name, made in calls.items()}
    held: list[list[tuple[keras.Variable, Any]]] = []

    def entered(name: str, x: Any) -> Any:
        current = [(own, scope.get_current_value(own)) for own in _own(layers[name])]
        held.append([(own, value) for own, value in current if value is not None])
        for own, value in held[-1]:
            scope.add_update((own, ops.stop_gradient(value)))
        return x + ops.cast(waiting[name][0][0], x.dtype)

    def left(name: str, x: Any, y: Any) -> Any:
        for update in held.pop():
            scope.add_update(update)
        return y + waiting[name].pop(0)[1]

    with _observed(layers, entered, left):
        yield


@contextmanager
def _observed(layers: dict[str, Any], entered: Any, left: Any) -> Iterator[None]:
    """Pass what enters each layer, and what leaves it before its activation, through functions."""
    before = {name: layer.activation for name, layer in layers.items()}

    def observe(name: str, layer: Any) -> None:
        native, entering = layer.call, []

        def call(inputs: Any, **options: Any) -> Any:
            x = engine.as_tensor(inputs)
            entering.append(x)
            return native(entered(name, x), **options)

        def activation(y: Any) -> Any:
            y = left(name, entering.pop(), y)
            return y if before[name] is None else before[name](y)

        layer.call, layer.activation = call, activation

    for name, layer in layers.items():
        observe(name, layer)
    try:
        yield
    finally:
        for name, layer in layers.items():
            del layer.call
            layer.activation = before[name]


def _own(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return a layer's variables without those of layers in it, such as what its rule keeps."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _own_variables(model: keras.layers.Layer, layers: dict[str, Any]) -> list[keras.Variable]:
    """Return the layers' variables, without those that other layers own too and so may use."""
    known = {id(layer) for layer in layers.values()}
    others = [layer for layer in model._flatten_layers() if id(layer) not in known]
    shared = {id(variable) for layer in others for variable in _own(layer)}
    own = {id(variable): variable for layer in layers.values() for variable in _own(layer)}
    return [variable for key, variable in own.items() if key not in shared]


@contextmanager
def _counts_as_before(layers: dict[str, Any]) -> Iterator[None]:
    states = [layer.feedback_state for layer in layers.values() if layer.feedback_state is not None]
    counts = [dict(state.counts) for state in states]
    try:
        yield
    finally:
        for state, before in zip(states, counts, strict=True):
            state.counts.update(before)


def _matrices(layer: Any, ahead: int) -> list[Any]:
    """Return the B of each kernel as the backward pass after so many others will use it."""
    with _counts_as_before({"": layer}):
        if layer.feedback_state is not None:
            for name in layer.feedback_state.counts:
                layer.feedback_state.counts[name] += ahead
        return [layer.feedback_matrix(kernel.name) for kernel in kernels(layer)]


def _problem(layer: Any, made: list[tuple[Any, Any, list[Any]]]) -> tuple[str, int]:
    """Return what is wrong with a layer's calls, empty if nothing is, and how many had errors."""
    if not made:
        return "was never called, so nothing is proved", 0
    told_apart = isinstance(layer.rule, Backprop)
    compared = 0
    for number, (sent, arrived, feedback) in enumerate(made, start=1):
        if not _numpy(arrived).any():
            continue
        compared += 1
        if layer.error_dtype is not None and not isinstance(layer.rule, Backprop):
            arrived = ops.cast(arrived, layer.error_dtype)
        weights = [engine.as_tensor(getattr(layer, kernel.name)) for kernel in kernels(layer)]
        shape = tuple(sent.shape)
        expected = _native_input_gradient(layer, feedback, shape, arrived)
        by_weight = _native_input_gradient(layer, weights, shape, arrived)
        size = _native_input_gradient(layer, [abs(b) for b in feedback], shape, abs(arrived))
        terms = prod(fan_out(kernel.geometry) for kernel in kernels(layer))
        stored = _ROUNDOFF[keras.backend.standardize_dtype(arrived.dtype)]
        summed = min(stored, _ROUNDOFF["float32"])
        root = sqrt(terms)
        tolerance = 8 * (root * summed * size + stored * (abs(expected) + size / root))
        difference = abs(_numpy(sent) - expected)
        if not bool((difference <= tolerance).all()):  # not "any greater", which NaN would pass
            excess = (difference - tolerance).max()
            return (
                f"sent another error than B gives in call {number}: it is off by up to "
                f"{difference.max():.3g}, which is {excess:.3g} above what rounding explains"
            ), compared
        told_apart = told_apart or bool((abs(by_weight - expected) > 2 * tolerance).any())
    if not compared:
        return "no error arrived at its output, so nothing is proved", 0
    return (
        "" if told_apart else "B and W give the same error here, so nothing is proved"
    ), compared


def _native_input_gradient(
    layer: Any, matrices: list[Any], shape: tuple[int, ...], error: Any
) -> NDArray[np.float64]:
    """Return the error sent to x by Keras's own layer with these matrices."""
    plain = next(plain for plain, own in FEEDBACK_LAYERS.items() if isinstance(layer, own))
    dtype = keras.backend.standardize_dtype(error.dtype)
    config = layer.get_config()
    for name in ("rule", "scale", "seed", "keep_feedback", "error_dtype"):
        del config[name]
    no_bias = {"bias_axes": None} if "bias_axes" in config else {"use_bias": False}
    native = plain.from_config(config | no_bias | {"activation": None, "dtype": dtype})
    native.build(shape)
    for kernel, matrix in zip(kernels(native), matrices, strict=True):
        getattr(native, kernel.name).assign(ops.cast(matrix, dtype))
    zeros = ops.zeros(shape, dtype=dtype)
    _, (sent,) = engine.pullback(lambda x: native(x), [zeros], lambda y: error)
    return _numpy(sent)


def _numpy(tensor: Any) -> NDArray[np.float64]:
    narrow = "16" in str(tensor.dtype)
    return ops.convert_to_numpy(ops.cast(tensor, "float32") if narrow else tensor).astype(
        np.float64
    )


def _loss(output: Any) -> Any:
    """Return a sum of all that is in floating point, weighted so that nothing cancels."""
    tensors = [
        tensor
        for tensor in keras.tree.flatten(output)
        if "float" in keras.backend.standardize_dtype(tensor.dtype)
    ]
    if not tensors:
        raise SpecError(f"Expected outputs with gradients. Received: {type(output).__name__}")
    total = 0.0
    for tensor in tensors:
        weights = np.cos(np.arange(1, prod(tensor.shape) + 1)).reshape(tensor.shape)
        tensor = ops.cast(tensor, "float32")
        total = total + ops.sum(tensor * ops.cast(weights, "float32"))
    return total
