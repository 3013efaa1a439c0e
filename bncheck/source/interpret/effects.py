"""What a module's own statements do to a value after the assignment that made it.

A registry is filled by decorators, calls and item assignments below it. They run when the name
is first looked up, and only those that change it directly.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bncheck.source.interpret.values import Dictionary, Instance
from bncheck.source.module import SourceModule, dotted, statements


def may_be_registry(value: object) -> bool:
    """Tell whether later statements may fill a value: an object or a dictionary, no network."""
    return isinstance(value, Dictionary) or (isinstance(value, Instance) and not value.is_module)


def effects(module: SourceModule, name: str) -> Iterator[cst.CSTNode]:
    """Yield the module's statements that change what `name` is bound to, in order.

    A function or class that a decorator registers is yielded itself.
    """
    if module.text.count(name) < 2:
        return
    for statement in statements(module.tree.body):
        match statement:
            case cst.Expr(value=cst.Call(func=cst.Attribute() as function)):
                if _root(function) == name:
                    yield statement
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Subscript(value=owner))]):
                if _root(owner) == name:
                    yield statement
            case cst.FunctionDef() | cst.ClassDef():
                if any(_root(decorator_of(d)) == name for d in statement.decorators):
                    yield statement


def decorator_of(node: cst.Decorator) -> cst.BaseExpression:
    """Return what a decorator applies, without the arguments it is given."""
    expression = node.decorator
    return expression.func if isinstance(expression, cst.Call) else expression


def _root(expression: cst.BaseExpression) -> str:
    return (dotted(expression) or "").partition(".")[0]
