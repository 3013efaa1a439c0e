"""Small questions about syntax, each answered once per node."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache

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
    for name in _fields(node.__class__):
        value = getattr(node, name)
        if value.__class__ is list or value.__class__ is tuple:
            found += [item for item in value if _is_walked(item.__class__)]
        elif _is_walked(value.__class__):
            found.append(value)
    return found


@cache
def _is_walked(value_type: type) -> bool:
    return issubclass(value_type, cst.CSTNode) and not issubclass(value_type, _QUIET)


@cache
def _fields(node_type: type[cst.CSTNode]) -> tuple[str, ...]:
    return tuple(
        name
        for name in node_type.__dataclass_fields__
        if not name.startswith(("whitespace", "leading_", "lpar", "rpar", "header", "footer"))
        and name not in {"trailing_whitespace", "semicolon", "comma", "equal", "annotation"}
    )


@lru_cache(maxsize=8192)
def identifiers(node: cst.CSTNode) -> frozenset[str]:
    """Return every name and attribute name in a node."""
    names: set[str] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if node.__class__ is cst.Name:
            names.add(node.value)
        else:
            stack += inside(node)
    return frozenset(names)


@lru_cache(maxsize=8192)
def assigned(node: cst.CSTNode) -> frozenset[str]:
    """Return the simple names that a node's statements bind."""
    names: set[str] = set()
    for part in walk(node):
        match part:
            case cst.AssignTarget(target=target) | cst.For(target=target):
                names.update(_targets(target))
            case cst.AugAssign(target=target) | cst.NamedExpr(target=target):
                names.update(_targets(target))
    return frozenset(names)


def _targets(target: cst.BaseExpression) -> Iterator[str]:
    match target:
        case cst.Name(value=name):
            yield name
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            for element in elements:
                yield from _targets(element.value)


def source(node: cst.CSTNode) -> str:
    """Return a node's source."""
    return cst.Module([]).code_for_node(node)


@lru_cache(maxsize=8192)
def names_in_order(node: cst.CSTNode) -> tuple[str, ...]:
    """Return the names in an expression, such as `('enumerate', 'test_loader')`, sorted."""
    return tuple(sorted(identifiers(node)))


def string(node: cst.BaseExpression | None) -> str | None:
    """Return the value of a string literal."""
    if isinstance(node, cst.SimpleString | cst.ConcatenatedString):
        value = node.evaluated_value
        return value if isinstance(value, str) else None
    return None
