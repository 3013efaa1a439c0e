"""Makes libcst's nodes with what they mean and nothing else: no white space, no punctuation.

libcst's constructors take every field of a node, and more than half of them say how it is
written. A node from here has only what readers ask for; the other fields are not there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import libcst as cst

Node = TypeVar("Node", bound=cst.CSTNode)

_new = object.__new__


def maker(kind: type[Node], *fields: str, empty: str = "") -> Callable[..., Node]:
    """Return a constructor that takes these fields in order. The short ones are called most.

    `empty` is a field that is None; older versions of libcst lack it.
    """
    setters: list[Any] = [getattr(kind, field).__set__ for field in fields]
    absent = getattr(kind, empty).__set__ if empty and hasattr(kind, empty) else None
    match setters:
        case [only]:

            def make(value: object) -> Node:
                node = _new(kind)
                only(node, value)
                return node

            return make
        case [first, second]:

            def make_pair(one: object, other: object) -> Node:
                node = _new(kind)
                first(node, one)
                second(node, other)
                return node

            return make_pair

    def make_any(*values: object) -> Node:
        node = _new(kind)
        for setter, value in zip(setters, values, strict=True):
            setter(node, value)
        if absent is not None:
            absent(node, None)
        return node

    return make_any


name = maker(cst.Name, "value")
attribute = maker(cst.Attribute, "value", "attr")
