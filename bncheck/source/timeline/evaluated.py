"""What a text that is evaluated names: `eval("models." + name + ".get_network")(settings)`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bncheck.source.literals import literal
from bncheck.source.timeline import attributes, calls, choices, expressions
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    AnyPackage,
    Constant,
    Opaque,
    Package,
    Value,
)

_ANYTHING = "\0"
"""Stands for a piece of a text that only a setting knows."""
_GAP = re.compile(r"\{[^{}]*\}|%s")


def evaluated(run: Run, node: cst.Call) -> Value:
    """Return what `eval` makes of a text: a name, names joined by dots, or a call of one."""
    text = "".join(_pieces(run, node.args[0].value)) if node.args else _ANYTHING
    path, parenthesis, _ = text.partition("(")
    named = _named(run, path.strip(), node)
    if parenthesis and not isinstance(named, Opaque):
        return calls.call_value(run, node, named, Arguments(complete=False))
    return named


def _pieces(run: Run, node: cst.BaseExpression) -> Iterator[str]:
    match node:
        case cst.BinaryOperation(operator=cst.Add()):
            yield from _pieces(run, node.left)
            yield from _pieces(run, node.right)
        case cst.FormattedString(parts=parts):
            for part in parts:
                if isinstance(part, cst.FormattedStringText):
                    yield part.value
                elif isinstance(part, cst.FormattedStringExpression):
                    yield from _pieces(run, part.expression)
        case cst.SimpleString():
            written = literal(node)
            yield written if isinstance(written, str) else _ANYTHING
        case cst.BinaryOperation(operator=cst.Modulo(), left=cst.SimpleString() as left):
            yield from (_GAP.sub(_ANYTHING, piece) for piece in _pieces(run, left))
        case cst.Call(func=cst.Attribute(value=cst.SimpleString() as left)):
            made = expressions.evaluate(run, node)
            if isinstance(made, Constant) and made.fixed and isinstance(made.value, str):
                yield made.value
                return
            yield from (_GAP.sub(_ANYTHING, piece) for piece in _pieces(run, left))
        case cst.Name() | cst.Attribute():
            value = expressions.evaluate(run, node)
            fixed = isinstance(value, Constant) and value.fixed and isinstance(value.value, str)
            yield str(value.value) if fixed and isinstance(value, Constant) else _ANYTHING
        case _:
            yield _ANYTHING


def _named(run: Run, path: str, node: cst.Call) -> Value:
    first, *others = path.split(".")
    if _ANYTHING not in first and first.isidentifier():
        value = expressions.evaluate(run, cst.Name(first))
    elif others:
        value = AnyPackage()
    else:
        value = choices.of_package(run, Package(run.frame.module), Opaque())
    for position, name in enumerate(others, 1):
        if _ANYTHING not in name:
            value = attributes.attribute(run, value, name, node)
        elif not isinstance(value, Package):
            return Opaque()
        elif position < len(others):
            value = AnyPackage()
        else:
            value = choices.of_package(run, value, Opaque())
    return value
