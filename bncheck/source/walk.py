"""Ways through a syntax tree that pass over white space and punctuation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
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


def inside(node: cst.CSTNode) -> list[cst.CSTNode]:
    """Return a node's children but whitespace and punctuation."""
    found: list[cst.CSTNode] = []
    for name in fields(node.__class__):
        value: Any = getattr(node, name, None)
        kind = value.__class__
        if kind is list or kind is tuple:
            for item in value:
                if _is_walked(item.__class__):
                    found.append(item)
        elif _is_walked(kind):
            found.append(value)
    return found


@cache
def _is_walked(value_type: type) -> bool:
    return issubclass(value_type, cst.CSTNode) and not issubclass(value_type, _QUIET)


@cache
def fields(node_type: type[cst.CSTNode]) -> tuple[str, ...]:
    """Return the names of the fields that are neither white space nor punctuation."""
    return tuple(
        name
        for name, field in node_type.__dataclass_fields__.items()
        if not name.startswith(("whitespace", "leading_", "lpar", "rpar", "header", "footer"))
        and name not in _NOT_WALKED
        and field.type is not str
    )


_NOT_WALKED = frozenset(
    """
    trailing_whitespace semicolon comma equal annotation dot colon indent lbracket rbracket lbrace
    rbrace asynchronous lines_after_decorators star conversion __slots__ first_colon second_colon
    posonly_ind
    """.split()  # noqa: SIM905
)


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
