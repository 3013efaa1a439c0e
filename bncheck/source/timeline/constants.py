"""Constants at the top of a file."""

from __future__ import annotations

import libcst as cst

from bncheck.source.literals import literal
from bncheck.source.timeline.values import NONE, Constant, Opaque, Value


def module_constant(value: cst.BaseExpression) -> Value:
    """Return a number or string at module level, which someone may edit."""
    match value:
        case cst.Integer() | cst.Float() | cst.SimpleString():
            constant = literal(value)
            return Constant(constant, fixed=False) if not isinstance(constant, bytes) else Opaque()
        case cst.Name(value="None"):
            return NONE
    return Opaque()
