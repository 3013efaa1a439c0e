"""What `object.name` and `object[key]` are where a method of the project's class says so."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from bncheck.source.timeline import classes, expressions, functions
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.frames import in_frame
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Constant, Frame, Function, Instance, Opaque, Value


def get_property(run: Run, node: cst.BaseExpression, function: Function) -> Value:
    """Return a method that is read, or the value of a property."""
    return _result(run, node, function, []) if functions.is_property(function) else function


def item(run: Run, node: cst.BaseExpression, owner: Instance, key: Value) -> Value:
    """Return `owner[key]`."""
    return _by_method(run, node, owner, "__getitem__", key) or Opaque()


def missing(run: Run, node: cst.BaseExpression, owner: Instance, name: str) -> Value | None:
    """Return what `__getattr__` gives for an attribute; None: there is no such method."""
    return _by_method(run, node, owner, "__getattr__", Constant(name))


def _by_method(
    run: Run, node: cst.BaseExpression, owner: Instance, method: str, key: Value
) -> Value | None:
    found = classes.find(run, owner.cls, method)
    if not isinstance(found, Function):
        return None
    return _result(run, node, classes.bound(found, owner), [key])


def _result(
    run: Run, node: cst.BaseExpression, function: Function, given: Sequence[Value]
) -> Value:
    """Return what a method makes: of one that is a single expression, that without following it."""
    code = function.node
    result = _only_expression(code) if isinstance(code, cst.FunctionDef) else None
    if result is None or code in run.stack or function.receiver is None:
        return functions.follow(run, node, function, Arguments(list(given)))
    names = [parameter.name.value for parameter in code.params.params]
    values = dict(zip(names, (function.receiver, *given), strict=False))
    run.stack.append(code)
    with in_frame(run, Frame(function.module, function.name, values)):
        value = expressions.evaluate(run, result)
    run.stack.pop()
    return value


def _only_expression(code: cst.FunctionDef) -> cst.BaseExpression | None:
    """Return what a method returns that does nothing else, and calls nothing to get it."""
    match code.body.body:
        case [cst.SimpleStatementLine(body=[cst.Return(value=value)])] if isinstance(
            value, cst.Attribute | cst.Subscript | cst.BinaryOperation | cst.IfExp
        ):
            return value
    return None
