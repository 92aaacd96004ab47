"""Weights that a module reads behind its layer's back.

``torch.nn.MultiheadAttention`` passes ``self.out_proj.weight`` to a function and never calls
``out_proj``; torchvision's Swin does the same with ``qkv`` and ``proj``. Replacing such a layer
changes nothing. They are found in the source of the modules around a layer; ``verify`` proves at
run time what reading source cannot.
"""

import ast
import inspect
import textwrap
from functools import cache
from types import FunctionType
from typing import Any

from torch import nn

# What may be asked of a weight without using its values.
_METADATA = {"dtype", "device", "shape", "size", "ndim", "dim", "numel", "requires_grad", "is_cuda"}

# Reads that never meet a gradient: the fast path of torch's encoder layers runs only where none
# is needed.
_HARMLESS = {nn.TransformerEncoderLayer, nn.TransformerEncoder}


def bypassed_layers(model: nn.Module) -> dict[nn.Module, str]:
    """Return the modules whose weight another module's code reads, each with the reader's name.

    Args:
        model: The model, whose modules' classes are looked up in their source; a class without
            source is passed over.
    """
    readers: dict[nn.Module, str] = {}
    for module in model.modules():
        kind: Any = type(module)  # classes are hashable; torch's annotations hide it
        for path, reader in _weight_reads(kind):
            try:
                readers.setdefault(module.get_submodule(path), reader)
            except AttributeError:
                continue  # code for a child that this instance does not have
    return readers


@cache
def _weight_reads(kind: type) -> tuple[tuple[str, str], ...]:
    """Return (path of a descendant, name of the method that reads its weight) for a class."""
    reads: list[tuple[str, str]] = []
    shadowed: set[str] = set()  # overridden further down, without a call of super
    for owner in kind.__mro__:
        if owner is nn.Module:
            break
        for name, method in vars(owner).items():
            if name in shadowed or not isinstance(method, FunctionType):
                continue
            tree = _parsed(method)
            if not any(isinstance(node, ast.Name) and node.id == "super" for node in tree):
                shadowed.add(name)
            if owner not in _HARMLESS and not ("init" in name or "reset" in name):
                reads += [(path, f"{owner.__name__}.{name}") for path in _paths_read(tree)]
    return tuple(reads)


def _parsed(method: FunctionType) -> list[ast.AST]:
    """Return the nodes of a method's source; none if there is no source."""
    try:
        return list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(method)))))
    except (OSError, TypeError, SyntaxError):
        return []


def _paths_read(tree: list[ast.AST]) -> list[str]:
    """Return "a.b" for each ``self.a.b.weight`` whose values meet a gradient."""
    passed_over = {
        id(node.value)
        for node in tree
        if isinstance(node, ast.Attribute) and node.attr in _METADATA
    }
    for node in tree:
        if _without_gradients(node):
            passed_over.update(map(id, ast.walk(node)))
    reads = [
        _path_from_self(node.value)
        for node in tree
        if isinstance(node, ast.Attribute) and node.attr == "weight" and id(node) not in passed_over
    ]
    return [path for path in reads if path]


def _without_gradients(node: ast.AST) -> bool:
    """Whether a node is a block or a function under ``torch.no_grad`` or the like."""
    if isinstance(node, ast.With):
        contexts = [item.context_expr for item in node.items]
    elif isinstance(node, ast.FunctionDef):
        contexts = node.decorator_list
    else:
        return False
    return any(name in ast.unparse(c) for c in contexts for name in ("no_grad", "inference_mode"))


def _path_from_self(node: ast.expr) -> str:
    """Return "a.b" for ``self.a.b``, and nothing for any other expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    is_self = isinstance(node, ast.Name) and node.id == "self"
    return ".".join(reversed(names)) if is_self else ""
