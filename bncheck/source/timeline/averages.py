"""Loops over the parameters of two models at once: averages of weights kept by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import libcst as cst

from bncheck.events import AverageUpdate, Fact, Model
from bncheck.graph import UNKNOWN
from bncheck.source.module import dotted
from bncheck.source.timeline import classes, expressions, known, weights
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import (
    Function,
    Instance,
    Members,
    Models,
    Opaque,
    StateDict,
    Value,
    Weights,
)
from bncheck.source.walk import walk, walk_kinds

_IN_PLACE = frozenset({"mul_", "add_", "copy_", "lerp_", "sub_", "set_", "zero_"})
_AVERAGING = frozenset({"mul_", "mul", "lerp_", "lerp"})
_BUFFERS = frozenset({"buffers", "named_buffers", "running_mean", "update_bn"})
_SEES_TO_BUFFERS = re.compile(
    r"(?:update|copy|ema|average)_?buffers?$|buffers?_?(?:update|copy|ema)"
)
"""Names of functions that a caller of the average calls beside it."""


@dataclass(frozen=True)
class Pair:
    """The names that a loop over `zip(a.parameters(), b.parameters())` binds, and their models."""

    members: dict[str, Members]
    kept: Weights | None = None
    """Tensors of other models that it goes through, or looks up, beside one model's parameters."""
    bound: tuple[str, ...] = ()
    """The names that it binds to these."""
    besides: tuple[tuple[str, Model], ...] = ()
    """The other models that a name may stand for, where branches have made different ones."""

    def averaged(
        self, run: Run, body: cst.BaseSuite
    ) -> tuple[cst.CSTNode, tuple[Model, ...], Model] | None:
        """Return where the body averages, the models it averages into, and another."""
        changes = [(part, name) for name in self.members for part in _changes(body, name)]
        if len({name for _, name in changes}) != 1:
            return None
        if not (_averages(run, body) or (self.kept is not None and self.kept.mixed)):
            return None
        part, name = changes[-1]
        others = [member.model for other, member in self.members.items() if other != name]
        others += self.kept.models if self.kept is not None else ()
        more = (model for other, model in self.besides if other == name)
        return part, (self.members[name].model, *more), others[0]


def averages_equally(function: Value | None) -> bool:
    """Tell whether an `avg_fn` divides by the number of models averaged, as the default does."""
    if isinstance(function, Opaque):
        return function.name in {"get_swa_avg_fn", "get_swa_multi_avg_fn"}
    if not isinstance(function, Function):
        return False
    parameters = function.node.params.params
    if len(parameters) != 3:
        return False
    count = parameters[2].name.value
    return any(
        isinstance(part, cst.BinaryOperation)
        and isinstance(part.operator, cst.Divide)
        and count in identifiers(part.right)
        for part in walk(function.node.body)
    )


def paired(run: Run, node: cst.For) -> Pair | None:
    """Return what a loop over the parameters of several models binds; None: it is another loop."""
    match node.iter:
        case cst.Call(func=cst.Name(value="zip"), args=args):
            pair = _zipped(run, node.target, [argument.value for argument in args])
        case cst.Call() | cst.Name():
            pair = Pair(_looked_up(run, node))
            if not pair.members and isinstance(node.iter, cst.Call):
                pair = _written(run, node, node.iter)
        case _:
            return None
    models = {member.model for member in pair.members.values()}
    if pair.kept is None:
        return pair if len(models) > 1 else None
    # What is put back into the model that it came from meets that one's own statistics.
    return pair if len(models) == 1 and models.isdisjoint(pair.kept.models) else None


def _zipped(
    run: Run, target: cst.BaseAssignTargetExpression, over: list[cst.BaseExpression]
) -> Pair:
    """Return what `for p, q in zip(a.parameters(), b.parameters())` binds."""
    each = [_members(run, value) for value in over]
    values = [found[0] for found in each]
    if not isinstance(target, cst.Tuple) or len(target.elements) != len(values):
        return Pair({})
    members = {}
    besides: list[tuple[str, Model]] = []
    kept: dict[str, Weights] = {}
    for element, (value, *more) in zip(target.elements, each, strict=True):
        name = _last_name(element.value)
        tensors = weights.of(value) if not isinstance(value, Members) else None
        if name is not None and tensors is not None:
            kept[name] = tensors
        elif not isinstance(value, Members) or not value.parameters or name is None:
            return Pair({})
        else:
            members[name] = replace(value, one=True)
            besides += [(name, other.model) for other in more if isinstance(other, Members)]
    return Pair(members, weights.together(kept.values()), tuple(kept), tuple(besides))


def _members(run: Run, over: cst.BaseExpression) -> list[Value]:
    """Return what is gone through: of each network where a name may stand for several."""
    match over:
        case cst.Call(func=cst.Attribute(value=of, attr=cst.Name(value="parameters")), args=[]):
            receiver = expressions.evaluate(run, of) if dotted(of) is not None else None
            if isinstance(receiver, Models) and len(receiver.models) > 1:
                return [Members(model, parameters=True) for model in receiver.models]
    return [expressions.evaluate(run, over)]


def _written(run: Run, node: cst.For, over: cst.Call) -> Pair:
    """Return what a loop over a model's parameters writes into them from a list or dict.

    `for name, p in model.named_parameters(): p.data.copy_(kept[name])`
    """
    match over:
        case cst.Call(func=cst.Name(value="enumerate"), args=[cst.Arg(value=cst.Call() as inner)]):
            over = inner
    name = _last_name(node.target)
    match over.func:
        case cst.Attribute(attr=cst.Name(value=method)) if method in known.PARAMETERS:
            if name is None or not any(_changes(node.body, name)):
                return Pair({})
        case _:
            return Pair({})
    found = [
        weights.of(expressions.evaluate(run, part.value))
        for part in walk_kinds(node.body, (cst.Subscript,))
        if dotted(part.value) is not None
    ]
    kept = weights.together(found)
    value = expressions.evaluate(run, over) if kept is not None else None
    if name is None or not isinstance(value, Members):
        return Pair({})
    return Pair({name: replace(value, one=True)}, kept)


def _looked_up(run: Run, node: cst.For) -> dict[str, Members]:
    """Return what a loop over one model's named parameters looks up, in itself and in others.

    `for name, p in a.named_parameters(): ... others[name]`, or `for name in own.keys()` with both
    looked up. The others may be state dicts, of which only the parameters are looked up.
    """
    kept = {
        name: Members(value.model, parameters=True, one=True)
        for name, value in run.frame.names.items()
        if isinstance(value, StateDict) or (isinstance(value, Members) and value.parameters)
    }
    if not kept:
        return {}
    looked_up = walk_kinds(node.body, (cst.Subscript,))
    names = {part.value.value for part in looked_up if isinstance(part.value, cst.Name)}
    found = {name: value for name, value in kept.items() if name in names}
    if not found:
        return {}
    over = expressions.evaluate(run, node.iter)
    name = _last_name(node.target)
    if not isinstance(over, Members) or not over.parameters or name is None:
        return {}
    return found if _only_names(node.iter) else {**found, name: replace(over, one=True)}


def _only_names(over: cst.BaseExpression) -> bool:
    """Tell whether a loop over a dictionary of parameters goes over their names alone."""
    match over:
        case cst.Name():
            return True
        case cst.Call(func=cst.Attribute(attr=cst.Name(value="keys"))):
            return True
    return False


def run_pair(run: Run, node: cst.For, pair: Pair, body: Callable[[], None]) -> None:
    """Follow the body once, each name bound to a parameter of its model."""
    names: dict[str, Value] = {**pair.members}
    if pair.kept is not None:
        names.update(dict.fromkeys(pair.bound, pair.kept))
    run.frame.names.update(names)
    body()
    found = pair.averaged(run, node.body)
    if found is not None:
        part, models, source = found
        for model in models:
            run.emit(AverageUpdate(run.site(part), model, source, buffers(run, node)))


def loaded(run: Run, node: cst.Call, model: Model, arguments: Arguments) -> bool:
    """Follow `model.load_state_dict(kept)`; tell whether that is an average of parameters."""
    given = arguments.get(0, "state_dict")
    kept = weights.of(given) if given is not None else None
    if kept is None or not kept.mixed or model in kept.models:
        return False
    run.emit(AverageUpdate(run.site(node), model, kept.models[0], buffers(run, node)))
    return True


def _last_name(target: cst.BaseExpression) -> str | None:
    """Return `p` of `p` and of `(name, p)`."""
    if isinstance(target, cst.Tuple) and target.elements:
        target = target.elements[-1].value
    return target.value if isinstance(target, cst.Name) else None


def _changes(body: cst.BaseSuite, name: str) -> Iterator[cst.CSTNode]:
    return (part for part in walk(body) if _is_change(part, name))


def _is_change(part: cst.CSTNode, name: str) -> bool:
    match part:
        case cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value="data")) as target):
            return _root(target) == name
        case cst.AugAssign(target=target):
            return _root(target) == name
        case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value=method))):
            return method in _IN_PLACE and _root(owner) == name
    return False


def _root(node: cst.BaseExpression) -> str | None:
    while True:
        match node:
            case cst.Attribute(value=inner) | cst.Call(func=inner) | cst.Subscript(value=inner):
                node = inner
            case cst.Name(value=name):
                return name
            case _:
                return None


def _averages(run: Run, body: cst.CSTNode, hops: int = 1) -> bool:
    """Tell whether code weighs values, or hands them to a function of the project that does."""
    for part in walk(body):
        match part:
            case cst.BinaryOperation(operator=cst.Multiply() | cst.Divide()):
                return True
            case cst.Attribute(attr=cst.Name(value=name)) if name in _AVERAGING:
                return True
            case cst.Call(func=called) if hops:
                helper = _helper(run, called)
                if helper is not None and _averages(run, helper, hops - 1):
                    return True
    return False


def _helper(run: Run, called: cst.BaseExpression) -> cst.CSTNode | None:
    """Return the body of the function, or of an object's method, that an update calls."""
    match called:
        case cst.Name(value=name):
            function = run.look_up(name)
            return function.node.body if isinstance(function, Function) else None
        case cst.Attribute(value=cst.Name(value="self"), attr=cst.Name(value=name)):
            owner = run.frame.owner
            method = classes.members(owner.node).get(name) if owner is not None else None
            return method.body if isinstance(method, cst.FunctionDef) else None
        case cst.Attribute(value=cst.Name() | cst.Attribute() as owner, attr=attribute):
            held = expressions.evaluate(run, owner)
            found = (
                classes.find(run, held.cls, attribute.value) if isinstance(held, Instance) else None
            )
            return found.node.body if isinstance(found, Function) else None
    return None


def buffers(run: Run, node: cst.For | cst.Call) -> Fact:
    """Tell whether the code around the loop sees to buffers too; UNKNOWN where it may."""
    around: list[cst.CSTNode] = [node, *run.stack[-1:]]
    if run.frame.owner is not None:
        around.append(run.frame.owner.node)
    seen_to = any(identifiers(code) & _BUFFERS for code in around) or any(
        _SEES_TO_BUFFERS.search(name) for code in run.stack[-2:] for name in identifiers(code)
    )
    if not run.stack:  # It stands at the top of its file.
        seen_to |= any(name in run.frame.module.text for name in _BUFFERS)
    return UNKNOWN if seen_to else False
