"""Slices that take all of a tensor, so that they are copies of it."""

from __future__ import annotations

import sys
from typing import Any

from bncheck.graph import Kind, Node
from bncheck.model.traced_call import TracedCall


def is_whole(node: Node, call: TracedCall) -> bool:
    """Tell whether a slice takes all of a tensor.

    One whose end lies beyond the axis does so at this size of the input alone, and is none. One
    that ends just there takes less than all at any larger size, which shows where the model is run
    at one.
    """
    if node.kind is not Kind.RESHAPE or len(node.inputs) != 1:
        return False
    shape = node.shape
    if not shape or shape != node.inputs[0].shape:
        return False
    arguments = call.arguments
    if call.call.name == "slice":
        axis: Any = arguments.get("dim", 0)
        part = slice(arguments.get("start"), arguments.get("end"), arguments.get("step"))
        return isinstance(axis, int) and _takes_all(part, shape[axis])
    if call.call.name != "getitem":
        return False
    index: Any = arguments.get("index")
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    return all(_takes_all(part, size) for part, size in zip(parts, shape, strict=False))


def _takes_all(part: Any, size: int) -> bool:
    return (
        isinstance(part, slice)
        and part.start in {None, 0}
        and part.step in {None, 1}
        and part.stop in {None, sys.maxsize, size}
    )
