"""Subscripts: what stands between brackets, to read and to assign to."""

from __future__ import annotations

from typing import Any, cast

import libcst as cst

from bncheck.source.interpret.attributes import item
from bncheck.source.interpret.dispatch import Evaluate, expression, unknown
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.values import UNKNOWN


def subscript(node: cst.Subscript) -> Evaluate:
    """Turn `value[index]` into a function that evaluates it in a frame."""
    value_of = expression(node.value)
    index_of = index(node)
    cropped = _cropped(node)

    def evaluate(frame: Frame) -> object:
        return item(frame.machine, value_of(frame), index_of(frame), frame.site(node), cropped)

    return evaluate


def _cropped(node: cst.Subscript) -> tuple[int, ...] | None:
    """Return the dimensions that an index cuts short; None for one of more than slices."""
    cut: list[int] = []
    behind = 0
    for place, element in enumerate(node.slice):
        match element.slice:
            case cst.Slice(lower=None, upper=None, step=None):
                pass
            case cst.Slice():
                cut.append(place - behind)
            case cst.Index(value=cst.Ellipsis()) if not behind:
                behind = len(node.slice)
            case _:
                return None
    return tuple(cut)


def index(node: cst.Subscript) -> Evaluate:
    """Turn what stands between the brackets into a function: a value, a slice or a tuple."""
    parts = [_one_index(element.slice) for element in node.slice]
    if len(parts) == 1:
        return parts[0]
    return lambda frame: tuple(part(frame) for part in parts)


def _one_index(node: cst.BaseSlice) -> Evaluate:
    if isinstance(node, cst.Index):
        return expression(node.value)
    if not isinstance(node, cst.Slice):
        return unknown
    ends = [expression(e) if e is not None else None for e in (node.lower, node.upper, node.step)]

    def evaluate(frame: Frame) -> object:
        bounds = [end(frame) if end is not None else None for end in ends]
        if all(bound is None or isinstance(bound, int) for bound in bounds):
            return slice(*cast(Any, bounds))
        return UNKNOWN

    return evaluate
