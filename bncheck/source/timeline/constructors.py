"""What the code of a constructor says: what it puts where, and what some arguments rule out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import libcst as cst

from bncheck.source.configured import configured_batch_norm
from bncheck.source.literals import literal
from bncheck.source.module import dotted
from bncheck.source.timeline.classes import members
from bncheck.source.timeline.known import BATCH_NORMS
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.walk import walk_kinds


def ruled_out(init: cst.FunctionDef, given: dict[str, object]) -> Iterator[cst.CSTNode]:
    """Yield what a constructor does not run: the other side of a test on one parameter."""
    for part in walk_kinds(init.body, _CHOOSING):
        match part:
            case (
                cst.If(test=test, body=body, orelse=orelse)
                | cst.IfExp(test=test, body=body, orelse=orelse)
            ):
                outcome = _outcome(test, given)
                if outcome is True and orelse is not None:
                    yield orelse
                elif outcome is False:
                    yield body


_CHOOSING = (cst.If, cst.IfExp)


def _outcome(test: cst.BaseExpression, given: dict[str, object]) -> bool | None:
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            known_inner = _outcome(inner, given)
            return None if known_inner is None else not known_inner
        case (
            cst.Name(value=name)
            | cst.Attribute(value=cst.Name(value="self"), attr=cst.Name(value=name))
        ):
            return bool(given[name]) if name in given else None
        case cst.Comparison(
            left=cst.Name(value=name)
            | cst.Attribute(value=cst.Name(value="self"), attr=cst.Name(value=name)),
            comparisons=[
                cst.ComparisonTarget(operator=operator, comparator=cst.SimpleString() as text)
            ],
        ) if isinstance(given.get(name), str):
            if isinstance(operator, cst.Equal | cst.NotEqual):
                return (given[name] == literal(text)) is isinstance(operator, cst.Equal)
    return None


def put_into(function: cst.FunctionDef, name: str) -> Sequence[cst.BaseExpression]:
    """Return what a function assigns to a dotted name, adds to it, and lets it go over."""
    return _all_put(function).get(name, ())


@lru_cache(maxsize=4096)
def _all_put(function: cst.FunctionDef) -> dict[str | None, list[cst.BaseExpression]]:
    found: dict[str | None, list[cst.BaseExpression]] = {}
    for part in walk_kinds(function.body, _PUTTING):
        match part:
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Tuple() as bound)], value=given):
                for name in identifiers(bound):
                    found.setdefault(name, []).append(given)
            case cst.Assign(targets=[cst.AssignTarget(target=bound)], value=given):
                if not isinstance(given, cst.Name) or given.value[:1].isupper():
                    found.setdefault(dotted(bound), []).append(given)
            case cst.AugAssign(target=bound, value=given):
                found.setdefault(dotted(bound), []).append(given)
            case cst.Call(
                func=cst.Attribute(value=bound, attr=cst.Name(value="append" | "extend")),
                args=[argument],
            ):
                found.setdefault(dotted(bound), []).append(argument.value)
            case cst.For(target=target, iter=over):
                for name in identifiers(target):
                    found.setdefault(name, []).append(over)
    return found


_PUTTING = (cst.Assign, cst.AugAssign, cst.Call, cst.For)


@lru_cache(maxsize=4096)
def assigned_in_init(node: cst.ClassDef) -> dict[str, cst.BaseExpression]:
    """Return what a class's `__init__` gives to the attributes of the object."""
    init = members(node).get("__init__")
    found: dict[str, cst.BaseExpression] = {}
    for part in walk_kinds(init, _PUTTING) if isinstance(init, cst.FunctionDef) else ():
        match part:
            case cst.Assign(
                targets=[cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value=name)))],
                value=value,
            ):
                found[name] = value
            case cst.Call(
                func=cst.Attribute(attr=cst.Name(value="add_module")),
                args=[cst.Arg(value=cst.SimpleString() as label), cst.Arg(value=value)],
            ):
                found[str(literal(label))] = value
    return found


@lru_cache(maxsize=4096)
def parameters_for_batch_norm(init: cst.FunctionDef) -> frozenset[str]:
    """Return the parameters whose default is BatchNorm: its class, or a configuration of it."""
    parameters = [*init.params.params, *init.params.kwonly_params]
    return frozenset(
        parameter.name.value
        for parameter in parameters
        if parameter.default is not None
        and (
            identifiers(parameter.default) & BATCH_NORMS
            or configured_batch_norm(parameter.default) is not None
        )
    )
