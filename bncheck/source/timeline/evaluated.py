"""What a text that is evaluated names: `eval("models." + name + ".get_network")(settings)`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

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
    pieces = list(_pieces(run, node.args[0].value)) if node.args else [Opaque()]
    text = "".join(piece if isinstance(piece, str) else _ANYTHING for piece in pieces)
    settings = [piece for piece in pieces if not isinstance(piece, str)]
    path, parenthesis, _ = text.partition("(")
    named = _named(run, path.strip(), iter(settings), node)
    if parenthesis and not isinstance(named, Opaque):
        return calls.call_value(run, node, named, Arguments(complete=False))
    return named


def _pieces(run: Run, node: cst.BaseExpression) -> Iterator[str | Value]:
    """Yield the pieces of a text that are written, and what settings put between them."""
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
            yield written if isinstance(written, str) else Opaque()
        case cst.BinaryOperation(operator=cst.Modulo(), left=cst.SimpleString() as left):
            yield from _filled(run, left, [node.right])
        case cst.Call(func=cst.Attribute(value=cst.SimpleString() as left)):
            made = expressions.evaluate(run, node)
            if isinstance(made, Constant) and made.fixed and isinstance(made.value, str):
                yield made.value
                return
            yield from _filled(run, left, [argument.value for argument in node.args])
        case cst.Name() | cst.Attribute() | cst.Subscript():
            value = expressions.evaluate(run, node)
            fixed = isinstance(value, Constant) and value.fixed and isinstance(value.value, str)
            yield str(value.value) if fixed and isinstance(value, Constant) else value
        case _:
            yield Opaque()


def _filled(
    run: Run, pattern: cst.SimpleString, filling: Sequence[cst.BaseExpression]
) -> Iterator[str | Value]:
    """Yield the pieces of `"models.{}".format(name)` or `"models.%s" % name`."""
    written = literal(pattern)
    if not isinstance(written, str):
        yield Opaque()
        return
    first, *others = _GAP.split(written)
    yield first
    for piece in others:
        # Which of several fills which gap is not read.
        yield from _pieces(run, filling[0]) if len(filling) == len(others) == 1 else [Opaque()]
        yield piece


def _named(run: Run, path: str, settings: Iterator[Value], node: cst.Call) -> Value:
    """Return what a path names, whose gaps the settings fill in their order."""
    first, *others = path.split(".")
    chosen = _key(first, settings)
    if _ANYTHING not in first and first.isidentifier():
        value = expressions.evaluate(run, cst.Name(first))
    elif others:
        value = AnyPackage()
    else:
        value = choices.of_package(run, Package(run.frame.module), chosen)
    for position, name in enumerate(others, 1):
        chosen = _key(name, settings)
        if _ANYTHING not in name:
            value = attributes.attribute(run, value, name, node)
        elif not isinstance(value, Package):
            return Opaque()
        elif position < len(others):
            value = AnyPackage()
        else:
            value = choices.of_package(run, value, chosen)
    return value


def _key(name: str, settings: Iterator[Value]) -> Value:
    """Return what the settings say of a name in a path, where they say all of it."""
    said = list(islice(settings, name.count(_ANYTHING)))
    return said[0] if name == _ANYTHING else Opaque()
