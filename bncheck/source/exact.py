"""What libcst itself makes of a file: how each node is written, and where it stands.

Readers look at a tree of the same shape whose nodes say less (see `bncheck.source.outline`). Only
where a finding is, libcst parses: the functions that the nodes are in, or else the whole file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from bncheck.source.module import SourceModule
from bncheck.source.outline import LazyBlock, UnparsableBodyError, unvalidated
from bncheck.source.positions import Range, locate, split_lines
from bncheck.source.walk import ancestors, fields, inside


@dataclass(frozen=True)
class _Piece:
    """libcst's tree of some lines of a file, and how many lines stand before its first."""

    tree: cst.Module
    before: int = 0


@dataclass(frozen=True)
class Exact:
    """What libcst makes of the parts of a file where the nodes are that were asked for."""

    path: str
    lines: Sequence[str]
    """Of the file, with their ends."""
    pieces: tuple[_Piece, ...]
    nodes: dict[int, cst.CSTNode]
    """By the identity of the node that a reader has."""

    def above(self, node: cst.CSTNode) -> list[cst.CSTNode]:
        """Return the nodes around one of these, outermost first, and itself."""
        trails = (ancestors(node, piece.tree) for piece in self.pieces)
        return next((trail for trail in trails if trail), [])

    def ranges(self, nodes: Iterable[object]) -> dict[int, Range]:
        """Return where libcst's nodes stand in the file, by their identity."""
        wanted = {id(node) for node in nodes}
        found: dict[int, Range] = {}
        for piece in self.pieces:
            for mark, place in locate(piece.tree, wanted).items():
                found[mark] = place.further_down(piece.before)
        return found


def exact(module: SourceModule, wanted: Iterable[object]) -> Exact:
    """Look nodes of a module up in what libcst makes of it.

    Raises UnparsableBodyError where that is not of the same shape, or can't be made.
    """
    marks = {id(node): node for node in wanted if isinstance(node, cst.CSTNode)}
    lines = split_lines(module.text)
    if module.is_exact:
        return Exact(module.path, lines, (_Piece(module.tree),), marks)
    functions = _functions(module.tree, set(marks))
    if functions is not None:
        try:
            pieces, nodes = _of_functions(module, functions, set(marks))
            return Exact(module.path, lines, pieces, nodes)
        except (UnparsableBodyError, cst.ParserSyntaxError):
            pass
    try:
        tree = _parse(module.text)
    except (cst.ParserSyntaxError, RecursionError):
        raise UnparsableBodyError(module.path) from None
    nodes = dict(_counterparts(module, module.tree, tree, set(marks)))
    return Exact(module.path, lines, (_Piece(tree),), nodes)


def _parse(text: str) -> cst.Module:
    with unvalidated():
        return cst.parse_module(text)


def _functions(tree: cst.Module, marks: set[int]) -> list[cst.FunctionDef] | None:
    """Return the functions in which all the nodes are; None where one is in none."""
    found: list[cst.FunctionDef] = []
    left = set(marks)
    stack: list[cst.CSTNode] = [tree]
    while stack and left:
        node = stack.pop()
        if isinstance(node, cst.FunctionDef) and isinstance(node.body, LazyBlock):
            here = left & set(_within(node))
            if here:
                left -= here
                found.append(node)
        elif id(node) in left:
            return None
        else:
            stack += inside(node)
    return found


def _within(function: cst.FunctionDef) -> Iterator[int]:
    stack: list[cst.CSTNode] = [function]
    while stack:
        node = stack.pop()
        yield id(node)
        if not (isinstance(node, LazyBlock) and node.waits):
            stack += inside(node)


def _of_functions(
    module: SourceModule, functions: Iterable[cst.FunctionDef], marks: set[int]
) -> tuple[tuple[_Piece, ...], dict[int, cst.CSTNode]]:
    pieces: list[_Piece] = []
    nodes: dict[int, cst.CSTNode] = {}
    for function in functions:
        assert isinstance(function.body, LazyBlock)
        lines, _, end = function.body.place
        head = function.body.head
        indented = lines[head][:1] in {" ", "\t"}
        tree = _parse("\n".join([*["if 1:"] * indented, *lines[head:end], ""]))
        around = tree.body[0]
        body = around.body.body if indented and isinstance(around, cst.If) else tree.body
        nodes.update(_counterparts(module, [function], body, marks))
        pieces.append(_Piece(tree, head - indented))
    return tuple(pieces), nodes


def _counterparts(
    module: SourceModule, root: object, written: object, marks: set[int]
) -> Iterator[tuple[int, cst.CSTNode]]:
    """Go down both trees at once. A body that nothing has read holds no node to look for."""
    stack: list[tuple[object, object]] = [(root, written)]
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
                yield id(node), other
            for name in fields(node.__class__):
                value = getattr(node, name, None)
                if value is not None and value.__class__ is not str:
                    stack.append((value, getattr(other, name)))
