"""Which function turns an expression into one that evaluates it, by the expression's kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libcst as cst

from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.values import UNKNOWN

Evaluate = Callable[[Frame], object]

BUILDERS: dict[type, Callable[[Any], Evaluate]] = {}
"""Filled by `bncheck.source.interpret.expressions`."""


def expression(node: cst.CSTNode) -> Evaluate:
    """Turn an expression into a function that evaluates it in a frame."""
    builder = BUILDERS.get(type(node))
    return builder(node) if builder is not None else unknown


def unknown(frame: Frame) -> object:
    """Evaluate what is not understood."""
    return UNKNOWN
