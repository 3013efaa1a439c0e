"""Targets of assignments, loops and comprehensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libcst as cst

from bncheck.graph import Kind
from bncheck.source.interpret.containers import add_child
from bncheck.source.interpret.dispatch import Evaluate, expression
from bncheck.source.interpret.facts import note
from bncheck.source.interpret.machine import Frame, Machine
from bncheck.source.interpret.memory import layers_of
from bncheck.source.interpret.sequences import known_items
from bncheck.source.interpret.subscripts import index
from bncheck.source.interpret.values import (
    UNKNOWN,
    Arguments,
    Dictionary,
    Either,
    External,
    Instance,
    List,
    Parameter,
    Symbol,
    Tensor,
    is_constant,
    options,
)
from bncheck.source.walk import walk

Bind = Callable[[Frame, object], None]
_MULTIPLE = {Kind.OPAQUE, Kind.RECURRENT, Kind.ATTENTION, Kind.INPUT, Kind.JOIN}


def target(node: cst.CSTNode) -> Bind:
    """Turn the target of an assignment into a function that binds a value to it."""
    if isinstance(node, cst.Name):
        name = node.value

        def bind_name(frame: Frame, value: object) -> None:
            frame.names[name] = value

        return bind_name
    if isinstance(node, (cst.Tuple, cst.List)):
        return _unpacking(node)
    if isinstance(node, cst.Attribute):
        return _attribute(node)
    if isinstance(node, cst.Subscript):
        return _subscript(node)
    return lambda frame, value: None


def _unpacking(node: cst.Tuple | cst.List) -> Bind:
    parts = [(target(e.value), isinstance(e, cst.StarredElement)) for e in node.elements]

    def bind(frame: Frame, value: object) -> None:
        for (one, _), part in zip(parts, _unpacked(frame, value, node, parts), strict=True):
            one(frame, part)

    return bind


def _unpacked(frame: Frame, value: object, node: Any, parts: list[tuple[Bind, bool]]) -> list[Any]:
    stars = [place for place, (_, starred) in enumerate(parts) if starred]
    count = len(parts)
    if isinstance(value, Either):
        columns = [_unpacked(frame, o, node, parts) for o in value.options if o is not None]
        if columns:
            return [frame.machine.join_all(list(column)) for column in zip(*columns, strict=True)]
    if isinstance(value, Tensor):
        if value.node.kind in _MULTIPLE:
            return [value] * count
        machine, site = frame.machine, frame.site(node)
        return [machine.add(Kind.OPERATION, "part", site, [value]) for _ in range(count)]
    if isinstance(value, Symbol):
        return [Symbol(f"{value.expression}[{place}]") for place in range(count)]
    items = known_items(frame.machine, value)
    if items is None:
        lost = frame.machine.opaque("unpacking", frame.site(node), [value])
        return [lost] * count
    if not stars:
        return items if len(items) == count else [UNKNOWN] * count
    place, after = stars[0], count - stars[0] - 1
    if len(items) < count - 1:
        return [UNKNOWN] * count
    middle = List(items[place : len(items) - after])
    return [*items[:place], middle, *items[len(items) - after :]]


def _attribute(node: cst.Attribute) -> Bind:
    owner_of, name = expression(node.value), node.attr.value

    def bind(frame: Frame, value: object) -> None:
        owner = owner_of(frame)
        if isinstance(owner, Instance):
            machine = frame.machine
            if machine.graph is not None:
                if isinstance(value, Instance) and owner.born < machine.forward_from:
                    _keep(machine, value)
                elif isinstance(value, Tensor) and owner.born < machine.forward_from:
                    machine.kept.append((name, value))
            elif value == Parameter():
                value = Parameter(role="kept")
            if owner.layer is not None and name in owner.layer.attributes:
                # Whether this runs, and when, is not asked: what the constructor was given is past.
                note(owner.layer, name, UNKNOWN)
            if owner.layer is not None and name == "forward":
                note(owner.layer, "hooked", True)
            if isinstance(value, Parameter) and value.layer is not None and value.role == "bias":
                note(value.layer, "shared", True)
            machine.change(owner)
            owner.state[name] = value
        elif isinstance(owner, Parameter) and name == "requires_grad" and value is False:
            _leave_untrained(owner)

    return bind


def _leave_untrained(parameter: Parameter) -> None:
    """Note that a bias alone is kept from training: whoever does that knows that it is idle."""
    if parameter.layer is not None and parameter.role == "bias":
        note(parameter.layer, "bias", UNKNOWN)


def _keep(machine: Machine, value: Instance) -> None:
    """Note that a layer constructed in a forward is kept for the next call, or replaced by it."""
    if value.layer is not None and value.layer.get("constructed_in") == "forward":
        replaced = value.site is not None and _runs_at_each_call(machine, value.site.mark)
        note(value.layer, "constructed_in", "forward, replaced" if replaced else "forward, kept")


def keep_in(machine: Machine, owner: List | Dictionary, value: object) -> None:
    """Note that the layers of a module stay in what was there before the forward began."""
    if machine.graph is None or owner.born >= machine.forward_from:
        return
    for option in options(value):
        for _, layer in layers_of(option) if isinstance(option, Instance) else ():
            note(layer, "constructed_in", "forward, kept")


def _runs_at_each_call(machine: Machine, call: object) -> bool:
    """Tell whether a forward that is being run surely comes to a call, whatever was before."""
    for node, running in machine.active.items():
        if running and isinstance(node, cst.FunctionDef) and node.name.value == "forward":
            for statement in node.body.body:
                below = walk(statement)
                if not isinstance(statement, cst.SimpleStatementLine):
                    if any(isinstance(inner, cst.Return) for inner in below):
                        break
                elif any(inner is call for inner in below):
                    return not any(
                        isinstance(inner, cst.IfExp | cst.BooleanOperation) for inner in below
                    )
    return False


def _subscript(node: cst.Subscript) -> Bind:
    if isinstance(node.value, cst.Attribute) and node.value.attr.value == "_modules":
        return _submodule(node.value.value, index(node))
    owner_of, place_of = expression(node.value), index(node)

    def bind(frame: Frame, value: object) -> None:
        owner, place = owner_of(frame), place_of(frame)
        machine = frame.machine
        if isinstance(owner, Instance):
            _set_child(frame, owner, place, value, node)
        elif isinstance(owner, Dictionary):
            keep_in(machine, owner, value)
            machine.change(owner)
            if owner.state is not None and (is_constant(place) or isinstance(place, External)):
                owner.state[place] = value
            else:
                owner.state = None
        elif isinstance(owner, List):
            keep_in(machine, owner, value)
            machine.change(owner)
            owner.state = _replaced(owner.state, place, value)
        elif isinstance(owner, Tensor):
            result = machine.opaque("assignment into a tensor", frame.site(node), [owner, value])
            if isinstance(result, Tensor):
                owner.node = result.node

    return bind


def _submodule(module: cst.BaseExpression, place_of: Evaluate) -> Bind:
    """Turn `module._modules[place]` into a function that makes a value its submodule."""
    owner_of = expression(module)

    def bind(frame: Frame, value: object) -> None:
        owner, place = owner_of(frame), place_of(frame)
        if isinstance(owner, Instance):
            add_child(frame.machine, owner, place, value)

    return bind


def _replaced(items: list[object] | None, place: object, value: object) -> list[object] | None:
    if items is None or not isinstance(place, int) or not -len(items) <= place < len(items):
        return None
    items[place] = value
    return items


def _set_child(frame: Frame, owner: Instance, place: object, value: object, node: Any) -> None:
    machine = frame.machine
    if owner.base in {"Sequential", "ModuleList", "ModuleDict"}:
        names = list(owner.state)
        if isinstance(place, int) and -len(names) <= place < len(names):
            add_child(machine, owner, names[place], value)
        else:
            add_child(machine, owner, place, value)
        return
    from bncheck.source.interpret.attributes import instance_attribute
    from bncheck.source.interpret.calls import call

    setter = instance_attribute(machine, owner, "__setitem__", None)
    if setter is not UNKNOWN:
        call(machine, setter, Arguments([place, value]), frame.site(node))
