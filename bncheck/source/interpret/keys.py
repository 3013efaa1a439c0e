"""Keys for arguments: values with equal keys are interchangeable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bncheck.graph import Node, Symbol
from bncheck.source.interpret.values import (
    CONSTANT_TYPES,
    MISSING,
    Arguments,
    Class,
    Dictionary,
    Either,
    External,
    Function,
    Heap,
    List,
    Missing,
    Partial,
    Tensor,
    Unknown,
)

if TYPE_CHECKING:
    from bncheck.source.interpret.machine import Frame

_DEEPEST: Final = 6
_EQUAL_TO_OTHERS: Final = frozenset({bool, float, complex})
"""True equals 1, and so does 1.0: their class is a part of the key."""
_KEYS: Final = CONSTANT_TYPES | {Class, Symbol, External, Missing, Unknown}


class NotFrozenError(Exception):
    """A value has no key."""


def pattern_of(value: object, nodes: list[Node]) -> object:
    """Return a key for an argument of a forward, and collect the nodes of its tensors."""
    if isinstance(value, Tensor):
        for place, node in enumerate(nodes):
            if node is value.node:
                return ("tensor", place)
        nodes.append(value.node)
        return ("tensor", len(nodes) - 1, value.node.kind)
    if isinstance(value, tuple):
        return tuple(pattern_of(inner, nodes) for inner in value)
    if isinstance(value, Either):
        return ("either", *(pattern_of(inner, nodes) for inner in value.options))
    if isinstance(value, List) and value.state is not None:
        return ("list", *(pattern_of(inner, nodes) for inner in value.state))
    return _freeze(value, _DEEPEST)


def key_of(arguments: Arguments) -> object:
    """Return a key for the arguments of a call; raise NotFrozenError where one has none."""
    return (
        tuple(_freeze(value, _DEEPEST) for value in arguments.positional),
        tuple((name, _freeze(value, _DEEPEST)) for name, value in arguments.keywords.items()),
    )


def _freeze(value: object, depth: int) -> object:
    """Return a hashable key: values with equal keys are interchangeable as arguments."""
    kind = value.__class__
    if kind in _EQUAL_TO_OTHERS:
        return (kind, value)
    if kind in _KEYS:
        return value
    if not depth:
        raise NotFrozenError
    if isinstance(value, tuple):
        return tuple(_freeze(inner, depth - 1) for inner in value)
    if isinstance(value, List) and value.state is not None:
        return ("list", *(_freeze(inner, depth - 1) for inner in value.state))
    if isinstance(value, Dictionary) and value.state is not None:
        return ("dict", *((k, _freeze(v, depth - 1)) for k, v in value.state.items()))
    if isinstance(value, Either):
        return ("either", *(_freeze(inner, depth - 1) for inner in value.options))
    if isinstance(value, Partial):
        more = value.arguments
        if more.open:
            raise NotFrozenError
        return (
            "partial",
            _freeze(value.function, depth - 1),
            tuple(_freeze(inner, depth - 1) for inner in more.positional),
            tuple((name, _freeze(inner, depth - 1)) for name, inner in more.keywords.items()),
        )
    if isinstance(value, Function):
        return _frozen_function(value, depth)
    raise NotFrozenError


def _frozen_function(value: Function, depth: int) -> object:
    if isinstance(value.receiver, (Heap, Tensor)):
        raise NotFrozenError
    captured: list[object] = []
    scope: Frame | None = value.outer
    while scope is not None and scope.outer is not None:
        captured += [(name, _freeze(v, depth - 1)) for name, v in scope.names.items()]
        scope = scope.outer
    if scope is not None and not scope.is_module:
        captured += [(name, _freeze(v, depth - 1)) for name, v in scope.names.items()]
    defaults = tuple((name, _freeze(v, depth - 1)) for name, v in value.defaults.items())
    receiver = None if value.receiver is MISSING else _freeze(value.receiver, depth - 1)
    return ("function", id(value.node), receiver, defaults, *captured)
