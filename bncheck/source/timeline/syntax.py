"""Small questions about syntax, each answered once per node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bncheck.source.module import dotted
from bncheck.source.outline import LazyBlock
from bncheck.source.prose import without_prose, words
from bncheck.source.walk import inside, walk_kinds


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


@lru_cache(maxsize=1024)
def called(node: cst.CSTNode) -> frozenset[str]:
    """Return the last parts of the names of what a node calls."""
    functions = (call.func for call in walk_kinds(node, (cst.Call,)))
    return frozenset(
        function.attr.value if isinstance(function, cst.Attribute) else dotted(function) or ""
        for function in functions
    )


@lru_cache(maxsize=16384)
def mentions(node: cst.CSTNode) -> frozenset[str]:
    """Return every name in a node, and some more: the words in the texts of long bodies.

    What is not among these is not among the `identifiers` either, and to know it costs no parsing.
    """
    if isinstance(node, LazyBlock):
        return frozenset(words(without_prose(node.text)))
    if isinstance(node, cst.Name):
        return frozenset((node.value,))
    names: set[str] = set()
    stack = inside(node)
    while stack:
        node = stack.pop()
        if node.__class__ is cst.Name:
            names.add(node.value)
        elif node.__class__ in _ASKED_ALONE:
            names |= mentions(node)
        else:
            stack += inside(node)
    return frozenset(names)


_ASKED_ALONE = (LazyBlock, cst.FunctionDef)
"""Of which functions and methods the words are asked for by themselves too."""


@lru_cache(maxsize=8192)
def assigned(node: cst.CSTNode) -> frozenset[str]:
    """Return the simple names that a node's statements bind."""
    names: set[str] = set()
    for part in walk_kinds(node, _BINDING):
        match part:
            case cst.AssignTarget(target=target) | cst.For(target=target):
                names.update(targets(target))
            case cst.AugAssign(target=target) | cst.NamedExpr(target=target):
                names.update(targets(target))
    return frozenset(names)


_BINDING = (cst.AssignTarget, cst.For, cst.AugAssign, cst.NamedExpr)


def targets(target: cst.BaseExpression) -> Iterator[str]:
    """Yield the simple names that an assignment to a target binds."""
    match target:
        case cst.Name(value=name):
            yield name
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            for element in elements:
                yield from targets(element.value)


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


def places(word: str, text: str) -> Iterator[int]:
    """Yield where a text has a word, not as a part of a longer one.

    To look for a plain string is some ten times as fast as to look for an expression.
    """
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not (_LETTER.match(text, end) or (start and _LETTER.match(text, start - 1))):
            yield start
        start = text.find(word, end)


_LETTER = re.compile(r"\w")


def last_name(node: cst.BaseExpression | cst.BaseSlice) -> str:
    """Return the last part of a dotted name, `posenet` of `args.posenet`; empty: it is none."""
    expression = node.value if isinstance(node, cst.Index) else node
    named = isinstance(expression, cst.BaseExpression) and dotted(expression)
    return (named or "").rpartition(".")[2]
