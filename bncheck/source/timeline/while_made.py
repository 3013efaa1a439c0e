"""Freezes in a network's constructor, or in a method that it calls, and their switches."""

from __future__ import annotations

import libcst as cst

from bncheck.source.module import dotted
from bncheck.source.timeline import classes
from bncheck.source.timeline.syntax import mentions
from bncheck.source.walk import inside, walk_kinds


def freezes_while_made(owner: cst.ClassDef, function: cst.FunctionDef) -> bool:
    """Tell whether a method is its class's constructor, or the constructor calls it on itself."""
    init = classes.members(owner).get("__init__")
    return isinstance(init, cst.FunctionDef) and (
        function is init or bool(_calls(init, function.name.value))
    )


def switch_of(owner: cst.ClassDef, function: cst.FunctionDef, mark: cst.CSTNode) -> str:
    """Return the parameter, off by default, that a freeze at a mark waits for; empty: it runs.

    `def __init__(self, width, freeze_bn=False)` and `if freeze_bn: self.freeze_bn()`.
    """
    init = classes.members(owner).get("__init__")
    if not isinstance(init, cst.FunctionDef):
        return ""
    off = {
        parameter.name.value
        for parameter in (*init.params.params, *init.params.kwonly_params)
        if isinstance(parameter.default, cst.Name) and parameter.default.value in {"False", "None"}
    }
    marks = [mark] if function is init else _calls(init, function.name.value)
    waits = [_asked(init, one) & off for one in marks]
    return min(waits[0]) if waits and all(waits) else ""


def _calls(init: cst.FunctionDef, name: str) -> list[cst.CSTNode]:
    if name not in mentions(init):
        return []
    return [c for c in walk_kinds(init.body, (cst.Call,)) if dotted(c.func) == f"self.{name}"]


def _asked(around: cst.CSTNode, mark: cst.CSTNode) -> set[str]:
    """Return the names that must be true for a mark to be reached: `if name:`, `if self.name:`."""
    asked: set[str] = set()
    for part in walk_kinds(around, (cst.If,)):
        match part:
            case cst.If(test=cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name))):
                if _holds(part.body, mark):
                    asked.add(name)
    return asked


def _holds(node: cst.CSTNode, mark: cst.CSTNode) -> bool:
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if part is mark:
            return True
        waiting += inside(part)
    return False
