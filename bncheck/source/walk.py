"""Ways through a syntax tree that pass over white space and punctuation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

_QUIET = (
    cst.BaseParenthesizableWhitespace,
    cst.EmptyLine,
    cst.TrailingWhitespace,
    cst.Comma,
    cst.Dot,
    cst.AssignEqual,
    cst.Semicolon,
    cst.LeftParen,
    cst.RightParen,
)


def walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield a node and everything below it but whitespace and punctuation, in no order."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        if node.__class__ is not cst.Name:
            stack += inside(node)


def walk_kinds(node: cst.CSTNode, kinds: tuple[type[cst.CSTNode], ...]) -> Iterator[Any]:
    """Yield a node and what is below it, as far as it is of one of some classes.

    A pattern that does not fit costs ten times as much as a look at the class: libcst's nodes are
    abstract base classes, which Python asks whether they have subclasses.
    """
    for part in walk(node):
        if part.__class__ in kinds:
            yield part


def inside(node: cst.CSTNode) -> list[cst.CSTNode]:
    """Return a node's children but whitespace and punctuation."""
    found: list[cst.CSTNode] = []
    for name in _FIELDS[node.__class__]:
        value: Any = getattr(node, name, None)
        if value is not None:
            if value.__class__ is tuple or value.__class__ is list:
                found += value
            elif _IS_WALKED[value.__class__]:
                found.append(value)
    return found


def fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    """Return the names of the fields that are neither white space nor punctuation."""
    return _FIELDS[kind]


class _Fields(dict[type, tuple[str, ...]]):
    """Filled as it is asked: looking up in a dict is faster than to call a cached function."""

    def __missing__(self, kind: type[cst.CSTNode]) -> tuple[str, ...]:
        found = self[kind] = tuple(
            name
            for name, field in kind.__dataclass_fields__.items()
            if not name.startswith(("whitespace", "leading_", "lpar", "rpar", "header", "footer"))
            and name not in _NOT_WALKED
            and field.type is not str
        )
        return found


class _IsWalked(dict[type, bool]):
    def __missing__(self, kind: type) -> bool:
        found = self[kind] = issubclass(kind, cst.CSTNode) and not issubclass(kind, _QUIET)
        return found


_NOT_WALKED = frozenset(
    """
    trailing_whitespace semicolon comma equal annotation dot colon indent lbracket rbracket lbrace
    rbrace asynchronous lines_after_decorators star conversion __slots__ first_colon second_colon
    posonly_ind relative
    """.split()  # noqa: SIM905
)
_FIELDS = _Fields()
_IS_WALKED = _IsWalked()


def ancestors(wanted: cst.CSTNode, tree: cst.CSTNode) -> list[cst.CSTNode]:
    """Return the nodes from the tree's root down to the wanted one; empty if it is not there.

    It walks the whole tree: for the few nodes that end in a finding.
    """
    trail: list[cst.CSTNode] = []
    stack: list[tuple[cst.CSTNode, int]] = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        del trail[depth:]
        trail.append(node)
        if node is wanted:
            return trail
        stack.extend((child, depth + 1) for child in inside(node))
    return []
