"""Expressions: each is turned once into a function from a frame to a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import libcst as cst

from bncheck.graph import Site
from bncheck.source.interpret.attributes import attribute
from bncheck.source.interpret.calls import call
from bncheck.source.interpret.dispatch import BUILDERS, Evaluate, expression, unknown
from bncheck.source.interpret.displays import DISPLAYS
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.operations import binary_operation
from bncheck.source.interpret.operators import OPERATORS
from bncheck.source.interpret.problems import PathEndsError
from bncheck.source.interpret.sequences import items_by_path, items_of
from bncheck.source.interpret.subscripts import subscript
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Dictionary,
    Function,
    Super,
    truth,
)
from bncheck.source.literals import literal


def _name(node: cst.Name) -> Evaluate:
    name = node.value
    if name in {"None", "True", "False"}:
        constant = {"None": None, "True": True, "False": False}[name]
        return lambda frame: constant

    def evaluate(frame: Frame) -> object:
        scope: Frame | None = frame
        while scope is not None:
            value = scope.names.get(name, MISSING)
            if value is not MISSING:
                return value
            scope = scope.outer
        return frame.machine.names.look_up(name, frame.machine, frame.module)

    return evaluate


def _literal(node: cst.BaseNumber | cst.SimpleString) -> Evaluate:
    try:
        constant: object = (
            literal(node)
            if isinstance(node, (cst.Integer, cst.Float, cst.SimpleString))
            else node.evaluated_value  # type: ignore[attr-defined]
        )
    except Exception:
        return unknown
    return lambda frame: constant


def _concatenated(node: cst.ConcatenatedString) -> Evaluate:
    left, right = expression(node.left), expression(node.right)
    return lambda frame: binary_operation(frame.machine, "+", left(frame), right(frame), None)


def _formatted(node: cst.FormattedString) -> Evaluate:
    parts: list[Callable[[Frame], object]] = []
    for part in node.parts:
        if isinstance(part, cst.FormattedStringText):
            parts.append(lambda frame, text=part.value: text)  # type: ignore[misc]
        elif isinstance(part, cst.FormattedStringExpression):
            inner = expression(part.expression)
            parts.append(inner if part.format_spec is None and not part.conversion else unknown)

    def evaluate(frame: Frame) -> object:
        values = [part(frame) for part in parts]
        if all(isinstance(value, (str, int, float, bool)) for value in values):
            return "".join(map(str, values))
        return UNKNOWN

    return evaluate


def _attribute(node: cst.Attribute) -> Evaluate:
    value_of, name = expression(node.value), node.attr.value
    site: Site | None = None

    def evaluate(frame: Frame) -> object:
        nonlocal site
        if site is None:
            site = frame.site(node)
        return attribute(frame.machine, value_of(frame), name, site)

    return evaluate


def _call(node: cst.Call) -> Evaluate:
    if isinstance(node.func, cst.Name) and node.func.value == "super":
        return _super(node)
    function_of = expression(node.func)
    arguments = [(expression(a.value), a.star, a.keyword and a.keyword.value) for a in node.args]
    if not any(star for _, star, _ in arguments):
        positional = [value_of for value_of, _, keyword in arguments if not keyword]
        keywords = [(keyword, value_of) for value_of, _, keyword in arguments if keyword]
        only = positional[0] if len(positional) == 1 else None
        site: Site | None = None

        def evaluate_plain(frame: Frame) -> object:
            nonlocal site
            if site is None:
                site = frame.site(node)
            function = function_of(frame)
            # To comprehend nothing, or one value, takes longer than to look.
            given = Arguments(
                [only(frame)] if only else [value_of(frame) for value_of in positional],
                {word: value_of(frame) for word, value_of in keywords} if keywords else {},
            )
            return call(frame.machine, function, given, site)

        return evaluate_plain

    def evaluate(frame: Frame) -> object:
        function = function_of(frame)
        given = Arguments()
        machine = frame.machine
        for value_of, star, keyword in arguments:
            value = value_of(frame)
            if keyword:
                given.keywords[keyword] = value
            elif not star:
                given.positional.append(value)
            elif star == "*":
                items = items_of(machine, value)
                if items is None and (runs := items_by_path(machine, value)) is not None:
                    given.positional.append(runs)
                elif items is None:
                    given.open = True
                    given.positional.append(UNKNOWN)
                else:
                    given.positional += items
            elif isinstance(value, Dictionary) and value.state is not None:
                given.keywords.update({k: v for k, v in value.state.items() if isinstance(k, str)})
            else:
                given.open = True
        return call(machine, function, given, frame.site(node))

    return evaluate


def _super(node: cst.Call) -> Evaluate:
    def evaluate(frame: Frame) -> object:
        scope: Frame | None = frame
        while scope is not None and scope.owner is None:
            scope = scope.outer
        if scope is None or scope.owner is None or scope.receiver is MISSING:
            return UNKNOWN
        return Super(scope.owner, scope.receiver)

    return evaluate


def _lambda(node: cst.Lambda) -> Evaluate:
    names = [p for p in (*node.params.params, *node.params.kwonly_params) if p.default is not None]
    defaults = [(p.name.value, expression(cast(Any, p.default))) for p in names]

    def evaluate(frame: Frame) -> object:
        given = {name: default(frame) for name, default in defaults}
        return Function(node, frame.module, frame, frame.owner, defaults=given)

    return evaluate


def _conditional(node: cst.IfExp) -> Evaluate:
    test, body, orelse = expression(node.test), expression(node.body), expression(node.orelse)
    place = id(node)

    def evaluate(frame: Frame) -> object:
        known = truth(test(frame))
        if known is not None:
            frame.machine.names.taken.add((place, known))
            return body(frame) if known else orelse(frame)
        values: list[object] = []
        frame.machine.uncertain += 1
        try:
            for branch in (body, orelse):
                try:
                    values.append(branch(frame))
                except PathEndsError:
                    continue
        finally:
            frame.machine.uncertain -= 1
        if not values:
            raise PathEndsError
        return frame.machine.join_all(values)

    return evaluate


def _walrus(node: cst.NamedExpr) -> Evaluate:
    value_of = expression(node.value)
    name = node.target.value if isinstance(node.target, cst.Name) else ""

    def evaluate(frame: Frame) -> object:
        value = frame.names[name] = value_of(frame)
        return value

    return evaluate


def _yield(node: cst.Yield) -> Evaluate:
    value = node.value
    inner = expression(value.item if isinstance(value, cst.From) else value) if value else None
    whole = isinstance(value, cst.From)

    def evaluate(frame: Frame) -> object:
        result = inner(frame) if inner is not None else None
        if frame.yields is None:
            frame.yields = []
        frame.yields += (items_of(frame.machine, result) or [UNKNOWN]) if whole else [result]
        return UNKNOWN

    return evaluate


def _await(node: cst.Await) -> Evaluate:
    return expression(node.expression)


BUILDERS |= {
    **DISPLAYS,
    **OPERATORS,
    cst.Name: _name,
    cst.Integer: _literal,
    cst.Float: _literal,
    cst.Imaginary: _literal,
    cst.SimpleString: _literal,
    cst.ConcatenatedString: _concatenated,
    cst.FormattedString: _formatted,
    cst.Ellipsis: lambda node: lambda frame: ...,
    cst.Attribute: _attribute,
    cst.Subscript: subscript,
    cst.Call: _call,
    cst.Lambda: _lambda,
    cst.IfExp: _conditional,
    cst.NamedExpr: _walrus,
    cst.Yield: _yield,
    cst.Await: _await,
}

__all__ = ["expression"]
