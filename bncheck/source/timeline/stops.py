"""Networks that stop the gradients of a part while they are made, and leave its mode alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from bncheck.graph import Site
from bncheck.source.module import SourceModule, dotted
from bncheck.source.project import Defined, Project
from bncheck.source.timeline import classes, handed_over, known, named_parts, parts
from bncheck.source.timeline.constructors import put_into
from bncheck.source.timeline.ingredients import ingredients_of
from bncheck.source.timeline.syntax import identifiers, mentions
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk, walk_kinds
from bncheck.timeline import GradientStop

_SETS = frozenset({"requires_grad", "requires_grad_"})
_HELPER = re.compile(r"requires_?grad|freeze|trainable", re.IGNORECASE)
"""What sets it, and what functions are called that do."""


def gradient_stops(module: SourceModule, project: Project) -> Iterator[GradientStop]:
    """Yield the first such part of each network class at the top of a file.

    A class that calls `eval()` anywhere, has a `train` method, or turns the gradients on again is
    passed over, and so is one that stops everything it has, a loss or a teacher, unless it is a
    part of a network that trains others.
    """
    text = module.text.lower()
    if not any(word in text for word in ("requires", "freeze", "trainable")):
        return
    for bindings in module.bindings.values():
        for binding in bindings:
            if isinstance(binding, cst.ClassDef) and any(map(_HELPER.search, mentions(binding))):
                yield from _of_class(module, project, binding)


def _of_class(module: SourceModule, project: Project, node: cst.ClassDef) -> Iterator[GradientStop]:
    init = classes.members(node).get("__init__")
    if not isinstance(init, cst.FunctionDef) or mentions(node) & {"eval", "deepcopy", "no_grad"}:
        return
    stopped: dict[str, cst.CSTNode] = {}
    local: set[str] = set()
    for code in (init, *called_on_itself(node, init)):
        # What is walked comes last first; a finding stands at the first.
        for part, statement in reversed(list(_stopped_parts(project, module, code))):
            stopped.setdefault(part, statement)
            if code is not init and _names_norms(project, module, code, part):
                local.add(part)
    if not stopped or _turned_on(project, node) or _turns_all_on(module):
        return
    cls = Class(node, module)
    if not is_plain_network(project, cls):
        return
    others = (parts.trainable(node) | handed_over.applied_parts(node)) - stopped.keys()
    if not others and not handed_over.is_part_of_one_that_trains(project, cls):
        return
    for part, statement in stopped.items():
        if (
            part in local
            or named_parts.hold_norms(project, cls, part)
            or handed_over.part_given(project, cls, part) is True
        ):
            trained = project.said.train_networks
            yield GradientStop(Site(module.path, statement), node.name.value, part, trained)
            return


def is_plain_network(project: Project, cls: Class) -> bool:
    """Tell whether a class is a network whose mode nothing but `train()` and `eval()` changes."""
    return (
        classes.is_network(project, cls) is True
        and not classes.ancestry(project, cls).unknown
        and classes.own_train(project, cls) is False
        and not classes.framework(project, cls)
    )


def called_on_itself(node: cst.ClassDef, init: cst.FunctionDef) -> Iterator[cst.FunctionDef]:
    """Yield the methods that a constructor calls, such as `self.freeze()`."""
    for call in walk_kinds(init.body, (cst.Call,)):
        owner, _, name = (dotted(call.func) or "").partition(".")
        method = classes.members(node).get(name) if owner == "self" else None
        if isinstance(method, cst.FunctionDef) and any(map(_HELPER.search, mentions(method))):
            yield method


def _stopped_parts(
    project: Project, module: SourceModule, function: cst.FunctionDef
) -> Iterator[tuple[str, cst.CSTNode]]:
    """Yield each part whose parameters all take no gradient, and where that is said."""
    for node in walk(function.body):
        match node:
            case cst.For(
                iter=cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value=which))),
                body=cst.IndentedBlock(body=[cst.SimpleStatementLine(body=[statement])])
                | cst.SimpleStatementSuite(body=[statement]),
            ) if which in known.PARAMETERS and stops_gradients(statement):
                yield from _own_parts(function, owner, mark(statement))
            case cst.Call(func=cst.Attribute(value=owner)) if stops_gradients(node):
                yield from _own_parts(function, owner, node)
            case cst.Call(
                func=cst.Name() | cst.Attribute(value=cst.Name()) as helping,
                args=[cst.Arg(value=owner), *rest],
            ):
                name = dotted(helping) or ""
                for helper, where in _defined(project, module, name):
                    stop = _stop_of_what_is_given(helper, rest)
                    if stop is not None:
                        shared = project.said.call_in_several_places(name.rpartition(".")[2])
                        yield from _own_parts(function, owner, node if shared else stop)
                    elif any(_is_false(given.value) for given in rest) and _sets(
                        project, helper, where
                    ):
                        for listed in _listed(owner):
                            yield from _own_parts(function, listed, node)


def _defined(
    project: Project, module: SourceModule, name: str
) -> Iterator[tuple[cst.FunctionDef, SourceModule]]:
    for meaning in project.resolve(name, module) if _HELPER.search(name) else ():
        if isinstance(meaning, Defined) and isinstance(meaning.binding, cst.FunctionDef):
            yield meaning.binding, meaning.module


def _stop_of_what_is_given(
    function: cst.FunctionDef, rest: Sequence[cst.Arg]
) -> cst.CSTNode | None:
    """Return where a helper, given the other arguments, stops the gradients of its first."""
    first, *others = [parameter.name.value for parameter in function.params.params] or [""]
    off = {name for name, given in zip(others, rest, strict=False) if _is_false(given.value)}
    for loop in walk_kinds(function.body, (cst.For,)) if mentions(function) & _SETS else ():
        match loop:
            case cst.For(
                iter=cst.Call(
                    func=cst.Attribute(value=cst.Name(value=owner), attr=cst.Name(value=which))
                ),
                body=cst.IndentedBlock(body=[cst.SimpleStatementLine(body=[statement])]),
            ) if owner == first and which in known.PARAMETERS:
                if stops_gradients(statement) or _set_to(statement) in off:
                    return mark(statement)
    return None


def _sets(project: Project, function: cst.FunctionDef, module: SourceModule, hops: int = 2) -> bool:
    """Tell whether a helper, or one that it names, sets `requires_grad`."""
    names = mentions(function)
    return bool(names & _SETS) or any(
        _sets(project, helper, where, hops - 1)
        for name in (names & module.bindings.keys() if hops else ())
        for meaning in project.resolve(name, module)
        if isinstance(meaning, Defined) and isinstance(meaning.binding, cst.FunctionDef)
        for helper, where in [(meaning.binding, meaning.module)]
    )


def _listed(node: cst.BaseExpression) -> Sequence[cst.BaseExpression]:
    """Return the elements of a list that is written out, or the expression itself."""
    if isinstance(node, cst.List | cst.Tuple):
        return [element.value for element in node.elements]
    return [node]


def _is_false(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Name) and node.value == "False"


def _set_to(statement: cst.CSTNode) -> str | None:
    """Return the name that a statement sets `requires_grad` to."""
    match statement:
        case cst.Assign(
            targets=[cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value="requires_grad")))],
            value=cst.Name(value=name),
        ):
            return name
    return None


def _own_parts(
    function: cst.FunctionDef, owner: cst.BaseExpression, where: cst.CSTNode
) -> Iterator[tuple[str, cst.CSTNode]]:
    """Yield the attributes that hold what is frozen: itself, or what a local name goes into.

    Layers taken out of a local sequence stand for it: `downsample._modules["1"]`.
    """
    taken = owner
    while isinstance(taken, cst.Subscript):
        taken = taken.value
    if isinstance(taken, cst.Attribute) and taken.attr.value == "_modules":
        taken = taken.value
    if taken is not owner and isinstance(taken, cst.Name):
        yield taken.value, where
    root, _, part = (dotted(owner) or "").partition(".")
    if root == "self" and part and "." not in part:
        yield part, where
    elif root == "self" and _EARLY_LAYER.match(part):
        yield part.partition(".")[0], where
    elif root and not part:
        for attribute, value in classes.kept(function):
            if root in identifiers(value):
                yield attribute, where
        for listed in gone_over(function, root):
            yield from _own_parts(function, listed, where)


_EARLY_LAYER = re.compile(r"\w+\.(?:bn1|layer\d|features|blocks|stages|encoder|backbone)$")
"""Layers with BatchNorm of a network that is a part: `resnet.layer1`."""


def gone_over(function: cst.FunctionDef, name: str) -> Iterator[cst.BaseExpression]:
    """Yield what is written out in lists that a loop binds a name to: `for m in [a, b]`."""
    for value in put_into(function, name):
        if isinstance(value, cst.List | cst.Tuple):
            for element in value.elements:
                if isinstance(element.value, cst.Attribute):
                    yield element.value


def _names_norms(
    project: Project, module: SourceModule, function: cst.FunctionDef, name: str
) -> bool:
    """Tell whether what a function assigns to a local name is made of BatchNorm."""
    return any(
        found.fact is True
        for value in put_into(function, name)
        for found in ingredients_of(project, value, module)
    )


def mark(statement: cst.CSTNode) -> cst.CSTNode:
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


def _are_the_last(over: cst.BaseExpression) -> bool:
    """Tell whether a loop goes over the children of a network but the first few."""
    match over:
        case cst.Subscript(
            value=cst.Call(
                func=cst.Name(value="list"),
                args=[cst.Arg(value=cst.Call(func=cst.Attribute(attr=cst.Name(value="children"))))],
            ),
            slice=[
                cst.SubscriptElement(slice=cst.Slice(lower=cst.Integer(value=first), upper=None))
            ],
        ):
            return int(first, 0) > 1
    return False


def _turns_all_on(module: SourceModule) -> bool:
    """Tell whether a constructor of the file turns on gradients of all norms that it goes over.

    So does a network whose blocks stop them one by one, unless a switch says to leave it so.
    """
    return any(
        isinstance(binding, cst.ClassDef)
        and isinstance(init := classes.members(binding).get("__init__"), cst.FunctionDef)
        and any(map(_turns_norms_on, walk_kinds(init.body, (cst.For,))))
        for bindings in module.bindings.values()
        for binding in bindings
    )


def _turns_norms_on(loop: cst.For) -> bool:
    """Recognise a loop over all modules that says `requires_grad = True` of BatchNorm layers."""
    return (
        isinstance(loop.iter, cst.Call)
        and dotted(loop.iter.func) == "self.modules"
        and bool(mentions(loop.body) & known.BATCH_NORMS)
        and any(
            isinstance(part.value, cst.Name)
            and part.value.value == "True"
            and any(
                isinstance(t.target, cst.Attribute) and t.target.attr.value == "requires_grad"
                for t in part.targets
            )
            for part in walk_kinds(loop.body, (cst.Assign,))
        )
    )


def _turned_on(project: Project, node: cst.ClassDef) -> bool:
    """Tell whether the class sets `requires_grad` to anything but False.

    What turns on the last layers alone leaves the first ones: `list(self.net.children())[5:]`.
    Nothing in the project may keep these in eval mode.
    """
    late = {
        inner
        for loop in walk_kinds(node.body, (cst.For,))
        if _are_the_last(loop.iter) and not project.said.keep_parts_in_eval
        for inner in walk(loop.body)
    }
    for part in walk(node.body):
        if part in late:
            continue
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
