"""Activation checkpointing: which networks a checkpointed function runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import libcst as cst

from bncheck.events import CheckpointCall, Fact, Model
from bncheck.graph import UNKNOWN
from bncheck.source.timeline import classes, known
from bncheck.source.timeline.norms_in_eval import may_hold_still
from bncheck.source.timeline.parts import part_holds
from bncheck.source.timeline.run import EACH, Run
from bncheck.source.timeline.switches import turned_on
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import Frame, Function, Members, Models, Opaque, Value
from bncheck.source.walk import walk_kinds

_MAX_HOPS = 2


def checkpoint(run: Run, node: cst.Call, name: str, first: Value | None) -> None:
    """Follow a call of one of `known.CHECKPOINTS`."""
    if first is None or run.frame.evaluates:
        return
    use = run.frame.use
    handed_on = use is not None and any(given is first for given in use.given)
    site = use.site if use is not None and handed_on else run.site(node)
    applied = dict.fromkeys(_applied(run, first)) if isinstance(first, Function) else {}
    is_set = partial(turned_on, run.project, run.frame.module)
    surely = isinstance(first, Models | Members) or _names_a_norm(run, first)
    for model in dict.fromkeys([*applied, *run.reachable(first)]):
        direct = surely or model in applied
        run.emit(CheckpointCall(site, model, name, direct, _compensated(run, model), is_set))


def _applied(run: Run, function: Function, hops: int = 0) -> Iterator[Model]:
    """Yield the networks that a function calls by name: its closure's, and parts of its own."""
    for part in walk_kinds(function.node, (cst.Call,)):
        value = _named(run, function, part.func)
        if isinstance(value, Opaque) and value.type_name.rpartition(".")[2] in known.BATCH_NORMS:
            value = run.promote(value)
        if isinstance(value, Models):
            yield from value.models
        elif isinstance(value, Function) and hops < _MAX_HOPS:
            yield from _applied(run, value, hops + 1)


def _named(run: Run, function: Function, name: cst.BaseExpression) -> Value | None:
    """Return what a name, or an attribute of one, is inside a function that does not run."""
    match name:
        case cst.Name(value=text):
            own = [parameter.name.value for parameter in function.node.params.params]
            if text in own:
                return function.receiver if own[0] == text else None
            return _closed_over(function.outer, text)
        case cst.Attribute(
            value=cst.Name() | cst.Attribute() as owner, attr=cst.Name(value=attribute)
        ):
            holder = _named(run, function, owner)
            if isinstance(holder, Models) and len(holder.models) == 1:
                return _attribute(run, holder.models[0], attribute)
        case cst.Subscript(value=cst.Attribute() | cst.Name() as owner):
            holder = _named(run, function, owner)
            if isinstance(holder, Models) and len(holder.models) == 1:
                return Models((run.part(holder.models[0], EACH),))
    return None


def _closed_over(frame: Frame | None, name: str) -> Value | None:
    while frame is not None:
        if name in frame.names:
            return frame.names[name]
        frame = frame.outer
    return None


def _attribute(run: Run, model: Model, name: str) -> Value | None:
    known = run.heap.get(model, name)
    if known is not None:
        return known
    cls = run.classes.get(model)
    if cls is None:
        return None
    found = classes.find(run, cls, name)
    if isinstance(found, Function):
        return classes.bound(found, Models((model,)))
    return Models((run.part(model, name),))


_NORM_NAME = re.compile(r"(?:batch_?norm|norm|bn)\d*$", re.IGNORECASE)


def _names_a_norm(run: Run, value: Value) -> bool:
    """Tell whether a function names what is likely to be a normalisation layer.

    Of a network whose class is known, so may a method that the function names, and the layer has
    to hold BatchNorm.
    """
    if not isinstance(value, Function):
        return False
    named = identifiers(value.node)
    networks = [model for model in run.reachable(value) if model in run.classes]
    if not networks:
        return any(_NORM_NAME.match(name) for name in named)
    for cls in [run.classes[model] for model in networks]:
        own = classes.members(cls.node)
        methods = [own[name] for name in named if isinstance(own.get(name), cst.FunctionDef)]
        names = named.union(*(identifiers(method) for method in methods))
        norms = filter(_NORM_NAME.match, names)
        if any(part_holds(run.project, cls, name) is True for name in norms):
            return True
    return False


_HALF_MOMENTUM = re.compile(r"momentum[^\n]*(?:sqrt|\*\*\s*\(?\s*(?:0?\.5|1\s*/\s*2))")


def _compensated(run: Run, model: Model) -> Fact:
    """Look for a square root in a momentum, where the network is or where it is checkpointed.

    Beside networks that keep their BatchNorm in eval mode by default nothing is known of it.
    """
    modules = {run.frame.module}
    if model in run.classes:
        modules.add(run.classes[model].module)
    if any(_HALF_MOMENTUM.search(module.text) for module in modules):
        return UNKNOWN
    return UNKNOWN if any(may_hold_still(run.project, module) for module in modules) else False
