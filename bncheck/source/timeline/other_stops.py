"""Gradients that stop outside of constructors: where a method freezes, or a function builds.

`stops` reads constructors. Here no network is followed either, so that nothing in the project may
keep parts of networks in eval mode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bncheck.graph import Site
from bncheck.source.module import SourceModule, dotted
from bncheck.source.project import Defined, Project
from bncheck.source.timeline import classes, ingredients, known, named_parts, stops
from bncheck.source.timeline.closer import CloserLook
from bncheck.source.timeline.constructors import put_into
from bncheck.source.timeline.syntax import identifiers, mentions, string
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds
from bncheck.timeline import GradientStop

_SETS = frozenset({"requires_grad", "requires_grad_"})
_FREEZES = re.compile(r"freez|frozen|train|tun|grad|fix|lock", re.IGNORECASE)
_HEAD = re.compile(
    r"^(?:fc|head|heads|classifier|cls|linear|last|pred|out|top|proj)", re.IGNORECASE
)
_EARLY = re.compile(
    r"backbone|encoder|feature|layer|conv1|stem|bn1|block|stage|bottom", re.IGNORECASE
)


def other_stops(module: SourceModule, project: Project) -> Iterator[GradientStop]:
    """Yield where functions and methods at the top of a file stop the gradients of BatchNorm."""
    if "requires_grad" not in module.text or not project.said.train_networks:
        return
    found = [
        (owner, function)
        for owner, function in _functions(module)
        if _SETS & mentions(function) and not known.JUDGES.search(function.name.value)
    ]
    if not found or project.said.keep_parts_in_eval:
        return
    for owner, function in found:
        if owner is None:
            yield from _in_a_builder(project, module, function)
        elif function.name.value == "__init__":
            yield from _of_all_it_has(project, module, owner, function)
        else:
            yield from _in_a_method(project, module, owner, function)


def _functions(module: SourceModule) -> Iterator[tuple[cst.ClassDef | None, cst.FunctionDef]]:
    for bindings in module.bindings.values():
        for binding in bindings:
            match binding:
                case cst.FunctionDef():
                    yield None, binding
                case cst.ClassDef() if _SETS & mentions(binding):
                    for member in classes.members(binding).values():
                        if isinstance(member, cst.FunctionDef):
                            yield binding, member


def _in_a_builder(
    project: Project, module: SourceModule, function: cst.FunctionDef
) -> Iterator[GradientStop]:
    """Yield where a function freezes a network that it has made, and then returns or hands on."""
    if "eval" in mentions(function):
        return
    for owner, mark, fronts in _stops(function.body):
        root, _, part = (dotted(owner) or "").partition(".")
        if _turns_on_again(function, root):
            continue
        made = put_into(function, root)
        if (
            not made
            or known.JUDGES.search(root)
            or _HEAD.match(part)
            or not _is_returned(function, root)
        ):
            continue
        if any(_norms_are_given(value, function) for value in made):
            continue
        if any(_is_made_with_norms(project, module, value, fronts) for value in made):
            yield GradientStop(Site(module.path, mark), function.name.value, root, True)
            return


def _of_all_it_has(
    project: Project, module: SourceModule, node: cst.ClassDef, init: cst.FunctionDef
) -> Iterator[GradientStop]:
    """Yield where a setting makes a constructor freeze all that a network has: `freeze=True`."""
    name = node.name.value
    if mentions(node) & {"eval", "deepcopy"} or known.JUDGES.search(name):
        return
    cls = Class(node, module)
    if not stops.is_plain_network(project, cls):
        return
    for condition in walk_kinds(init.body, (cst.If,)):
        if not any(map(_FREEZES.search, identifiers(condition.test))):
            continue
        for owner, mark, _ in _stops(condition.body):
            if dotted(owner) == "self" and (
                ingredients.made_by(project, node, module) is True
                or ingredients.is_chosen(project, init, module)
            ):
                yield GradientStop(Site(module.path, mark), name, "parameters", True)
                return


def _in_a_method(
    project: Project, module: SourceModule, node: cst.ClassDef, method: cst.FunctionDef
) -> Iterator[GradientStop]:
    """Yield where a method of a network, which something calls, freezes a part of it, or all."""
    name = method.name.value
    if mentions(node) & {"eval", "deepcopy"} or not project.said.call_somewhere(name):
        return
    init = classes.members(node).get("__init__")
    if not isinstance(init, cst.FunctionDef) or name in {"__init__", "train", "forward"}:
        return
    if method in stops.called_on_itself(node, init) or known.JUDGES.search(node.name.value):
        return
    cls = Class(node, module)
    if not stops.is_plain_network(project, cls):
        return
    for owner, mark in _spelled_out(method):
        root, _, path = (dotted(owner) or "").partition(".")
        if root == "self" and not path and _is_frozen_by_a_builder(project, cls, name):
            yield GradientStop(Site(module.path, mark), node.name.value, "parameters", True)
            return
        part, _, inner = path.partition(".")
        if _turns_on_again(method, f"self.{part}"):
            continue
        if root != "self" or not part or known.JUDGES.search(part) or _HEAD.match(inner or part):
            continue
        if named_parts.may_hold_norms(project, cls, part):
            yield GradientStop(Site(module.path, mark), node.name.value, part, True)
            return


def _spelled_out(method: cst.FunctionDef) -> Iterator[tuple[cst.BaseExpression, cst.CSTNode]]:
    """Yield what a method stops the gradients of, in lists that its loops go over too."""
    for owner, mark, _ in _stops(method.body):
        listed = stops.gone_over(method, owner.value) if isinstance(owner, cst.Name) else ()
        yield owner, mark
        yield from ((one, mark) for one in listed)


def _is_frozen_by_a_builder(project: Project, cls: Class, method: str) -> bool:
    """Tell whether a function of its file makes a network with BatchNorm and calls the method.

    It returns the network: `net = Network()`, `net.freeze()`, `return net`.
    """
    node, module = cls.node, cls.module
    builders = [
        function
        for owner, function in _functions(module)
        if owner is None and not known.JUDGES.search(function.name.value)
        for call in walk_kinds(function.body, (cst.Call,))
        for made, _, called in [(dotted(call.func) or "").rpartition(".")]
        if called == method
        and any(
            isinstance(value, cst.Call) and dotted(value.func) == node.name.value
            for value in put_into(function, made)
        )
        and _is_returned(function, made)
    ]
    return (
        bool(builders)
        and ingredients.made_by(project, node, module) is True
        and not _is_free_by_default(project, node, module)
    )


def _stops(
    body: cst.BaseSuite,
) -> Iterator[tuple[cst.BaseExpression, cst.CSTNode, frozenset[str]]]:
    """Yield what some code stops the gradients of, the norms at its front among it, and where.

    Where only parts of it are meant by their names, those come along.
    """
    found: list[tuple[cst.BaseExpression, cst.CSTNode, frozenset[str]]] = []
    for node in walk_kinds(body, (cst.For, cst.Call)):
        match node:
            case cst.For(
                iter=cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value=which))),
                body=cst.IndentedBlock(body=[first, *_]),
            ) if which in known.PARAMETERS:
                statement = _stopped_by(first)
                if statement is not None:
                    found.append((owner, stops.mark(statement), _fronts_named(first)))
            case cst.Call(func=cst.Attribute(value=owner)) if stops.stops_gradients(node):
                if (dotted(owner) or "").rpartition(".")[2] not in {"weight", "bias"}:
                    found.append((owner, node, frozenset()))
    yield from reversed(found)  # What is walked comes last first.


def _turns_on_again(function: cst.FunctionDef, name: str) -> bool:
    """Tell whether a function turns the gradients of a network on, in a loop over all it has."""
    for loop in walk_kinds(function.body, (cst.For,)):
        match loop.iter:
            case cst.Call(func=cst.Attribute(value=owner)) if dotted(owner) == name:
                sets = walk_kinds(loop.body, (cst.Assign, cst.Call))
                if any(_SETS & mentions(one) and not stops.stops_gradients(one) for one in sets):
                    return True
    return False


def _stopped_by(statement: cst.CSTNode) -> cst.CSTNode | None:
    """Return the statement in a loop over parameters that stops them: all, or all but a head."""
    match statement:
        case cst.SimpleStatementLine(body=[inner]):
            return inner if stops.stops_gradients(inner) else None
        case cst.If(test=test, body=cst.IndentedBlock(body=[first, *_])) if _names_the_front(test):
            return _stopped_by(first)
    return None


def _names_the_front(test: cst.BaseExpression) -> bool:
    """Tell whether a test on names passes layers at the front of a network."""
    match test:
        case cst.BooleanOperation(left=left, right=right):
            return _names_the_front(left) and _names_the_front(right)
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            return not _names_the_front(inner) and bool(_words(inner))
        case cst.Comparison(comparisons=[cst.ComparisonTarget(operator=cst.NotIn())]):
            return bool(_words(test))
    words = _words(test)
    return bool(words) and all(_EARLY.search(word) and not _HEAD.match(word) for word in words)


def _fronts_named(statement: cst.CSTNode) -> frozenset[str]:
    """Return the parts that a test on names asks for: `if name.startswith("encoder")`."""
    match statement:
        case cst.If(test=cst.Call(func=cst.Attribute(attr=cst.Name(value="startswith"))) as test):
            return frozenset(word.partition(".")[0] for word in _words(test))
    return frozenset()


def _words(test: cst.BaseExpression) -> list[str]:
    return [string(part) or "" for part in walk_kinds(test, (cst.SimpleString,))]


def _norms_are_given(value: cst.BaseExpression, function: cst.FunctionDef) -> bool:
    """Tell whether a call says which norms to make, and not BatchNorm: `norm_layer=Frozen`."""
    if not isinstance(value, cst.Call):
        return False
    usual = {parameter.name.value: parameter.default for parameter in function.params.params}
    for argument in value.args:
        if argument.keyword is not None and "norm" in argument.keyword.value:
            given = argument.value
            if isinstance(given, cst.Name):
                given = usual.get(given.value) or given
            names = identifiers(given)
            if "None" not in names and not any(name.startswith("BatchNorm") for name in names):
                return True
    return False


def _is_made_with_norms(
    project: Project, module: SourceModule, value: cst.BaseExpression, fronts: frozenset[str]
) -> bool:
    """Tell whether an expression makes a network with BatchNorm, or one that a setting names.

    Of a network that has parts of the names asked for, one of these has to hold it.
    """
    if not isinstance(value, cst.Call):
        return False
    found = [
        part
        for part in ingredients.ingredients_of(project, value, module)
        if not _has_no_norm_in(project, part, fronts)
    ]
    made = {
        ingredients.made_by(project, part.definition, part.module)
        for part in found
        if isinstance(part.definition, cst.ClassDef | cst.FunctionDef)
        and part.module is not None
        and not _is_free_by_default(project, part.definition, part.module)
    }
    return True in {part.fact for part in found} | made or ingredients.is_chosen(
        project, value, module
    )


def _has_no_norm_in(project: Project, made: ingredients.Ingredient, names: frozenset[str]) -> bool:
    """Tell whether a network has parts of these names, none of which is known to hold BatchNorm."""
    if not isinstance(made.definition, cst.ClassDef) or made.module is None:
        return False
    return named_parts.hold_none(project, Class(made.definition, made.module), names)


def _is_free_by_default(
    project: Project, definition: cst.ClassDef | cst.FunctionDef, module: SourceModule
) -> bool:
    """Tell whether a network holds no BatchNorm unless its constructor is told to make one."""
    if not isinstance(definition, cst.ClassDef):
        return False
    made = Defined(module, definition.name.value, definition)
    return CloserLook(made, project, frozenset())() is False


def _is_returned(function: cst.FunctionDef, name: str) -> bool:
    return any(
        part.value is not None and name in identifiers(part.value)
        for part in walk_kinds(function.body, (cst.Return,))
    )
