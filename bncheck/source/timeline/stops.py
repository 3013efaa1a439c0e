"""Networks that stop the gradients of a part while they are made, and leave its mode alone."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bncheck.graph import Site
from bncheck.source.module import SourceModule, dotted
from bncheck.source.project import Project
from bncheck.source.timeline import classes, ingredients
from bncheck.source.timeline.syntax import identifiers, mentions
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk
from bncheck.timeline import GradientStop

_PARAMETERS = frozenset({"parameters", "named_parameters"})
_SETS = frozenset({"requires_grad", "requires_grad_"})


def gradient_stops(module: SourceModule, project: Project) -> Iterator[GradientStop]:
    """Yield the first such part of each network class at the top of a file.

    A class that calls `eval()` anywhere, has a `train` method, or turns the gradients on again is
    passed over, and so is one that stops everything it has: a loss, or a teacher.
    """
    if "requires_grad" not in module.text:
        return
    for bindings in module.bindings.values():
        for binding in bindings:
            if isinstance(binding, cst.ClassDef) and mentions(binding) & _SETS:
                yield from _of_class(module, project, binding)


def _of_class(module: SourceModule, project: Project, node: cst.ClassDef) -> Iterator[GradientStop]:
    init = classes.members(node).get("__init__")
    if not isinstance(init, cst.FunctionDef) or mentions(node) & {"eval", "deepcopy", "no_grad"}:
        return
    stopped = dict(_stopped_parts(init))
    if not stopped or _turned_on(node):
        return
    cls = Class(node, module)
    family = classes.ancestry(project, cls)
    if (
        classes.is_network(project, cls) is not True
        or family.unknown
        or classes.own_train(project, cls) is not False
        or classes.framework(project, cls)
    ):
        return
    if not ingredients.parts(node) - stopped.keys():
        return
    for part, statement in stopped.items():
        if ingredients.part_holds(project, cls, part) is True:
            yield GradientStop(Site(module.path, statement), node.name.value, part)
            return


def _stopped_parts(init: cst.FunctionDef) -> Iterator[tuple[str, cst.CSTNode]]:
    """Yield each part whose parameters all take no gradient, and where that is said."""
    for node in walk(init.body):
        match node:
            case cst.For(
                iter=cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value=which))),
                body=cst.IndentedBlock(body=[cst.SimpleStatementLine(body=[statement])])
                | cst.SimpleStatementSuite(body=[statement]),
            ) if which in _PARAMETERS and stops_gradients(statement):
                yield from _own_part(owner, _mark(statement))
            case cst.Call(func=cst.Attribute(value=owner)) if stops_gradients(node):
                yield from _own_part(owner, node)


def _own_part(owner: cst.BaseExpression, mark: cst.CSTNode) -> Iterator[tuple[str, cst.CSTNode]]:
    root, _, part = (dotted(owner) or "").partition(".")
    if root == "self" and part and "." not in part:
        yield part, mark


def _mark(statement: cst.CSTNode) -> cst.CSTNode:
    """Return what a timeline takes for the site of such a statement."""
    match statement:
        case cst.Assign(targets=[cst.AssignTarget(target=target)]):
            return target
        case cst.Expr(value=value):
            return value
    return statement


def stops_gradients(node: cst.CSTNode) -> bool:
    """Tell whether a statement or call says `requires_grad = False`."""
    match node:
        case cst.Assign(
            targets=[cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value="requires_grad")))],
            value=cst.Name(value="False"),
        ):
            return True
        case cst.Call(
            func=cst.Attribute(attr=cst.Name(value="requires_grad_")),
            args=[cst.Arg(value=cst.Name(value="False"))],
        ):
            return True
        case cst.Expr(value=cst.Call() as call):
            return stops_gradients(call)
    return False


def _turned_on(node: cst.ClassDef) -> bool:
    """Tell whether the class sets `requires_grad` to anything but False."""
    for part in walk(node.body):
        match part:
            case cst.Assign(
                targets=[
                    cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value="requires_grad")))
                ],
                value=value,
            ) if "False" not in identifiers(value):
                return True
            case cst.Call(func=cst.Attribute(attr=cst.Name(value="requires_grad_"))):
                if not stops_gradients(part):
                    return True
    return False
