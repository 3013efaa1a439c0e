"""What libcst itself makes of a file: how each node is written, and where it stands.

Readers look at a tree of the same shape whose nodes say less (see `bncheck.source.outline`). Only
a file with findings is parsed by libcst, and the nodes of the findings are looked up in its tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import libcst as cst

from bncheck.source.module import SourceModule
from bncheck.source.outline import LazyBlock, UnparsableBodyError, unvalidated
from bncheck.source.walk import fields


@dataclass(frozen=True)
class Exact:
    """libcst's own tree of a file, and in it the nodes that were asked for."""

    path: str
    text: str
    tree: cst.Module
    nodes: dict[int, cst.CSTNode]
    """By the identity of the node that a reader has."""


def exact(module: SourceModule, wanted: Iterable[object]) -> Exact:
    """Look nodes of a module up in libcst's own tree.

    Raises UnparsableBodyError where that tree is not of the same shape, or can't be made.
    """
    marks = {id(node): node for node in wanted if isinstance(node, cst.CSTNode)}
    if module.is_exact:
        return Exact(module.path, module.text, module.tree, marks)
    try:
        with unvalidated():
            tree = cst.parse_module(module.text)
    except (cst.ParserSyntaxError, RecursionError):
        raise UnparsableBodyError(module.path) from None
    nodes = _counterparts(module, tree, marks)
    return Exact(module.path, module.text, tree, nodes)


def _counterparts(
    module: SourceModule, tree: cst.Module, marks: dict[int, cst.CSTNode]
) -> dict[int, cst.CSTNode]:
    """Go down both trees at once. A body that nothing has read holds no node to look for."""
    found: dict[int, cst.CSTNode] = {}
    stack: list[tuple[object, object]] = [(module.tree, tree)]
    while stack:
        node, other = stack.pop()
        if isinstance(node, list | tuple):
            if not isinstance(other, list | tuple) or len(node) != len(other):
                raise UnparsableBodyError(module.path)
            stack += zip(node, other, strict=True)
        elif isinstance(node, cst.CSTNode):
            if isinstance(node, LazyBlock):
                if node.waits:
                    continue
            elif node.__class__ is not other.__class__:
                raise UnparsableBodyError(module.path)
            if id(node) in marks and isinstance(other, cst.CSTNode):
                found[id(node)] = other
            for name in fields(node.__class__):
                value = getattr(node, name, None)
                if value is not None and value.__class__ is not str:
                    stack.append((value, getattr(other, name)))
    return found
