"""Small questions about syntax, each answered once per node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache

import libcst as cst

from bncheck.source.outline import LazyBlock

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
def _fields(node_type: type[cst.CSTNode]) -> tuple[str, ...]:
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
    rbrace asynchronous lines_after_decorators star conversion __slots__
    """.split()  # noqa: SIM905
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


_WORD = re.compile(r"[^\W\d]\w*")
_NO_CODE = re.compile(
    r"#[^\n]*|(?P<formatted>\b(?:[fF][rR]?|[rR][fF]))?(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|"
    r"'''(?:[^\\]|\\.)*?'''|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')",
    re.DOTALL,
)
"""Comments and strings."""


def _words(text: str) -> list[str]:
    """Return the words of a text outside comments and strings; a string's expressions count."""
    for found in _NO_CODE.finditer(text):
        if found["formatted"] and found[0].count("{") != found[0].count("}"):
            return _WORD.findall(text)  # It ends elsewhere: there are quotes in its expressions.
    return _WORD.findall(_NO_CODE.sub(lambda m: m[0] if m["formatted"] else " ", text))


@lru_cache(maxsize=16384)
def mentions(node: cst.CSTNode) -> frozenset[str]:
    """Return every name in a node, and some more: the words in the texts of long bodies.

    What is not among these is not among the `identifiers` either, and to know it costs no parsing.
    """
    names: set[str] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if node.__class__ is cst.Name:
            names.add(node.value)
        elif node.__class__ is LazyBlock:
            names.update(_words(node.text))
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
