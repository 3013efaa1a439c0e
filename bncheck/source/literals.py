"""The values of literals, without compiling each."""

from __future__ import annotations

import libcst as cst


def literal(node: cst.Integer | cst.Float | cst.SimpleString) -> int | float | str | bytes:
    """Return the value of a literal. libcst's `evaluated_value` compiles each: 50 times slower."""
    text = node.value
    kind = node.__class__
    if kind is cst.Integer and text.isdecimal() and (text[0] != "0" or text == "0"):
        return int(text)
    if kind is cst.Float:
        return float(text)
    if text[0] in "\"'" and "\\" not in text:
        return text[3:-3] if text[:3] in {'"""', "'''"} else text[1:-1]
    return node.evaluated_value
