"""Kernels that are read behind their layer's back, and weights that hide in functions.

A layer whose code multiplies by ``self.inner.kernel`` instead of calling ``self.inner`` would
bypass the rule of ``inner``; such reads are found in the source of the layers around it. A Lambda
layer whose function uses another layer hides that layer's weights from the model altogether.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache, partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import keras

_KERNELS = {"kernel", "_kernel", "depthwise_kernel", "pointwise_kernel"}

# What may be asked of a kernel without using its values.
_METADATA = {"dtype", "shape", "ndim", "trainable", "name", "path"}

# Their functions keep no weights of a user's.
_LIBRARIES = {"keras", "tensorflow", "jax", "torch", "numpy"}


def bypassed_layers(model: keras.layers.Layer) -> dict[int, str]:
    """Return, by id, the layers whose kernel another layer's code reads, with the reader's name.

    Args:
        model: The model, whose layers' classes are looked up in their source; a class without
            source is passed over.
    """
    readers: dict[int, str] = {}
    for layer in model._flatten_layers():
        if type(layer).__module__.startswith("keras.src.layers."):
            continue  # Keras's own layers call the layers that they hold
        kind: Any = type(layer)  # classes are hashable; annotations hide it
        for path, reader in _kernel_reads(kind):
            target: Any = layer
            for name in path.split("."):
                target = getattr(target, name, None)
            if isinstance(target, keras.layers.Layer):
                readers.setdefault(id(target), reader)
    return readers


def hidden_layers(model: keras.layers.Layer) -> dict[str, str]:
    """Return the Lambda layers whose function uses weights, each with what it uses."""
    hidden = {}
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Lambda):
            for name, value in _used("function", layer.function, set()):
                if _has_weights(value):
                    hidden[layer.name] = f"{name} ({type(value).__name__})"
    return hidden


def _used(name: str, value: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield what has a name, and what it uses in turn: functions, their objects, containers."""
    if id(value) in seen:
        return
    seen.add(id(value))
    yield name, value
    if isinstance(value, keras.layers.Layer):
        return
    inside: dict[str, Any] = {}
    if isinstance(value, FunctionType):
        if str(value.__module__).partition(".")[0] not in _LIBRARIES:
            inside = _surroundings(value)
    elif isinstance(value, MethodType):
        inside = {name: value.__self__, value.__name__: value.__func__}
    elif isinstance(value, partial):
        inside = {name: [value.func, value.args, value.keywords]}
    elif isinstance(value, dict):
        inside = {f"{name}[{key!r}]": element for key, element in value.items()}
    elif isinstance(value, list | tuple | set):
        inside = {f"{name}[{number}]": element for number, element in enumerate(value)}
    elif callable(value) and not isinstance(value, type):
        inside = getattr(value, "__dict__", {}) | {name: type(value).__call__}
    for key, element in inside.items():
        yield from _used(key, element, seen)


def _surroundings(function: FunctionType) -> dict[str, Any]:
    """Return what a function and those defined in it use from outside, and its defaults.

    Of an object, that is what it holds under a name that the function mentions.
    """
    around = dict(inspect.getclosurevars(function).nonlocals)
    names: set[str] = set()
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        names.update(code.co_names)  # of globals and of attributes
    globals_ = function.__globals__
    around |= {name: globals_[name] for name in sorted(names & globals_.keys())}
    around |= {
        f"{owner}.{name}": vars(value)[name]
        for owner, value in around.items()
        if hasattr(value, "__dict__")
        for name in sorted(names & vars(value).keys())
    }
    defaults = [function.__defaults__, function.__kwdefaults__]
    return around | {f"a default of {function.__name__}": defaults}


def _has_weights(value: Any) -> bool:
    if isinstance(value, keras.layers.Layer):
        return bool(value.weights) or not value.built
    return isinstance(value, keras.Variable)


@cache
def _kernel_reads(kind: type[keras.layers.Layer]) -> tuple[tuple[str, str], ...]:
    """Return (path of a descendant, name of the method that reads its kernel) for a class."""
    reads = []
    seen: set[str] = set()
    for owner in kind.__mro__:
        if owner is keras.layers.Layer:
            break
        for name, method in vars(owner).items():
            if name in seen or not isinstance(method, FunctionType):
                continue
            seen.add(name)
            if not ("init" in name or "build" in name or "own_variables" in name):
                reads += [(path, f"{owner.__name__}.{name}") for path in _paths_read(method)]
    return tuple(reads)


def _paths_read(method: FunctionType) -> Iterator[str]:
    """Yield "a.b" for each ``self.a.b.kernel`` whose values a method uses."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError):
        return
    metadata = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in _METADATA
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _KERNELS and id(node) not in metadata:
            path = _path_from_self(node.value)
            if path:
                yield path


def _path_from_self(node: ast.expr) -> str:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    is_self = isinstance(node, ast.Name) and node.id == "self"
    return ".".join(reversed(names)) if is_self else ""
