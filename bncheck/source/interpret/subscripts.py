"""Subscripts: what stands between brackets, to read and to assign to."""

from __future__ import annotations

from typing import Any, Final, cast

import libcst as cst

from bncheck.crops import Part, cropped
from bncheck.graph import Symbol
from bncheck.source.interpret.attributes import item
from bncheck.source.interpret.containers import some_child
from bncheck.source.interpret.dispatch import Evaluate, expression, unknown
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.values import UNKNOWN, Instance, Tensor, Unknown

_NOT_KNOWN: Final = (Unknown, Tensor, Symbol)


def subscript(node: cst.Subscript) -> Evaluate:
    """Turn `value[index]` into a function that evaluates it in a frame."""
    value_of = expression(node.value)
    index_of = index(node)
    crop = cropped([*map(_part, node.slice)])
    is_index = isinstance(node.slice[0].slice, cst.Index)

    def evaluate(frame: Frame) -> object:
        value, place = value_of(frame), index_of(frame)
        if value.__class__ is Instance and is_index and isinstance(place, _NOT_KNOWN):
            found = some_child(value)
            if found is not None:
                return found
        return item(frame.machine, value, place, frame.site(node), crop)

    return evaluate


def _part(element: cst.SubscriptElement) -> Part:
    match element.slice:
        case cst.Slice(lower=None, upper=None, step=None):
            return Part.WHOLE
        case cst.Slice():
            return Part.SLICE
        case cst.Index(value=cst.Ellipsis()):
            return Part.ELLIPSIS
    return Part.OTHER


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
