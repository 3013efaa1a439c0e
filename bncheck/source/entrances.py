"""Where reading starts: functions that may make a network, and the arguments they are given."""

from __future__ import annotations

import libcst as cst

from bncheck.graph import Symbol
from bncheck.source.interpret.values import Arguments, Function
from bncheck.source.module import dotted, statements

MOST_VARIANTS = 4
"""Factories read of those in one file that call the same function."""


def may_be_factory(node: cst.FunctionDef) -> bool:
    """Tell whether a function can be called without arguments and is no script's main part."""
    parameters = node.params
    every = (*parameters.posonly_params, *parameters.params, *parameters.kwonly_params)
    return all(parameter.default is not None for parameter in every) and node.name.value not in {
        "main",
        "test",
        "_test",
    }


def returned_call(node: cst.FunctionDef) -> str | None:
    """Return what a function's last `return` calls or names; None where it returns nothing."""
    for statement in reversed(list(statements(node.body.body))):
        match statement:
            case cst.Return(value=cst.Call(func=function)):
                return dotted(function) or "?"
            case cst.Return(value=cst.Name(value=name)):
                return _assigned_call(node, name)
    return None


def _assigned_call(node: cst.FunctionDef, name: str) -> str:
    """Return what is called to give a local name its value; the function's name if nothing is."""
    for statement in statements(node.body.body):
        match statement:
            case cst.Assign(
                targets=[cst.AssignTarget(target=cst.Name(value=target))],
                value=cst.Call(func=function),
            ) if target == name:
                return dotted(function) or "?"
    return node.name.value


def spread(names: list[str]) -> list[str]:
    """Return a few of many, the first and the last before those between them.

    Variants of one network that stand next to one another differ little.
    """
    if not names:
        return []
    step = (len(names) - 1) / (MOST_VARIANTS - 1)
    places = [0, MOST_VARIANTS - 1, *range(1, MOST_VARIANTS - 1)]
    return [names[place] for place in dict.fromkeys(round(place * step) for place in places)]


def symbols(initialiser: object, skip: int = 1, *, optional: bool = False) -> Arguments:
    """Return arguments for a call: a symbol for each parameter without a default."""
    if not isinstance(initialiser, Function):
        return Arguments()
    return symbols_of(initialiser.node, skip, optional=optional)


def symbols_of(
    node: cst.FunctionDef | cst.Lambda, skip: int = 0, *, optional: bool = False
) -> Arguments:
    """Return such arguments for a function, after the first `skip` parameters."""
    arguments = Arguments()
    parameters = node.params
    positional = (*parameters.posonly_params, *parameters.params)[skip:]
    for parameter in (*positional, *parameters.kwonly_params):
        if is_given(parameter, optional):
            arguments.keywords[parameter.name.value] = Symbol(parameter.name.value)
    return arguments


def is_given(parameter: cst.Param, optional: bool) -> bool:
    """Tell whether a call must, or with `optional` may well, give a parameter."""
    match parameter.default:
        case None:
            return True
        case cst.Name(value="None"):
            return optional
    return False
