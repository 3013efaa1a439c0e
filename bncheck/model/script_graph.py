"""The graph of a TorchScript module: calls inlined, constants folded, parameters still named."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from bncheck.errors import BNCheckError


@dataclass(frozen=True)
class Attribute:
    """A tensor that a graph reads: a parameter or buffer by its path, or a constant."""

    name: str
    """Dotted path from the module; empty for a constant."""
    tensor: Any


def inlined(module: Any) -> Any:
    """Return a copy whose methods are one graph each, in eval mode.

    Submodule calls are inlined, `training` is the constant False, and branches on constants are
    resolved; parameters and buffers stay where they were.
    """
    return simplified(reloaded(module).eval())


def reloaded(module: Any) -> Any:
    """Return a copy as it comes out of an archive; BNCheckError where there is none."""
    try:
        stream = io.BytesIO(module.save_to_buffer())
        return torch.jit.load(stream)  # type: ignore[no-untyped-call]
    except RuntimeError as problem:  # such as for an archive that is damaged where nothing runs
        line = str(problem).strip().partition("\n")[0]
        raise BNCheckError(f"the TorchScript cannot be stored and read again: {line}") from problem


def simplified(module: Any) -> Any:
    """Return the module with constants folded into its graphs and without what no graph reads.

    It is there to be rewritten, and to be run only once it was `reloaded`: torch 2.13 crashes on
    an error in a module that comes straight from this pass.
    """
    methods = [name for name in module._c._method_names() if name != "forward"]
    frozen = torch._C._freeze_module(module._c, methods, True, True)
    return torch.jit._recursive.wrap_cpp_module(frozen)  # type: ignore[no-untyped-call]


def graphs(module: Any) -> list[Any]:
    """Return the graph of every method, `forward` first."""
    names = sorted(module._c._method_names(), key=lambda name: name != "forward")
    return [module._c._get_method(name).graph for name in names]


def read_beside_forward(module: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield each other method of a module that was `inlined`, with the tensors that it reads."""
    for name in module._c._method_names():
        if name != "forward":
            values = (n.output() for n, _ in nodes(module._c._get_method(name).graph)
                      if n.kind() == "prim::GetAttr")  # fmt: skip
            found = (attribute(module, value) for value in values)
            yield name, [read.tensor for read in found if read is not None]


def nodes(block: Any) -> Iterator[tuple[Any, int]]:
    """Yield every node of a graph and of the blocks within, with a number for its block."""
    stack = [block]
    number = 0
    while stack:
        current = stack.pop()
        number += 1
        for node in current.nodes():
            yield node, number
            stack.extend(node.blocks())


def attribute(module: Any, value: Any) -> Attribute | None:
    """Return the tensor that a value is read from; None where it is computed."""
    node = value.node()
    if node.kind() == "prim::Constant":
        constant = value.toIValue()
        return Attribute("", constant) if isinstance(constant, torch.Tensor) else None
    path = attribute_path(value)
    owner = module
    for name in path:
        owner = getattr(owner, name, None)
    return Attribute(".".join(path), owner) if isinstance(owner, torch.Tensor) else None


def attribute_path(value: Any) -> list[str]:
    """Return the names that lead from the module to a value; none where it is computed."""
    path: list[str] = []
    node = value.node()
    while node.kind() == "prim::GetAttr":
        path.insert(0, node.s("name"))
        node = node.inputsAt(0).node()
    return path if node.kind() == "prim::Param" else []


def is_none(value: Any) -> bool:
    """Tell whether a value is the constant None."""
    return value.node().kind() == "prim::Constant" and value.toIValue() is None
