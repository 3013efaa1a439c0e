"""Copies of objects: `copy.deepcopy` and `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import replace

from bncheck.graph import Layer
from bncheck.source.interpret.fields import finish_fields
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.values import (
    UNKNOWN,
    Arguments,
    Branches,
    Dictionary,
    Either,
    Instance,
    List,
)


def deep_copy(value: object, known: dict[int, object] | None = None) -> object:
    """Return a copy that shares no object that can change with the original."""
    known = {} if known is None else known
    if id(value) in known:
        return known[id(value)]
    result: object = value
    if isinstance(value, Instance):
        made = Instance(value.cls, value.base, value.site)
        known[id(value)] = made
        if value.layer is not None:
            made.layer = copy_layer(value.layer, known)
        made.state = {name: deep_copy(inner, known) for name, inner in value.state.items()}
        return made
    if isinstance(value, List):
        copied = List(None)
        known[id(value)] = copied
        if value.state is not None:
            copied.state = [deep_copy(inner, known) for inner in value.state]
        return copied
    if isinstance(value, Dictionary):
        table = Dictionary(None)
        known[id(value)] = table
        if value.state is not None:
            table.state = {key: deep_copy(inner, known) for key, inner in value.state.items()}
        return table
    if isinstance(value, tuple):
        result = tuple(deep_copy(inner, known) for inner in value)
    elif isinstance(value, Either):
        result = Either(tuple(deep_copy(inner, known) for inner in value.options))
    elif isinstance(value, Branches):
        result = Branches(
            tuple(tuple(deep_copy(inner, known) for inner in run) for run in value.options)
        )
    known[id(value)] = result
    return result


def copy_layer(layer: Layer, known: dict[int, object]) -> Layer:
    """Return a layer of the same kind, from the same place, with the same attributes."""
    found = known.get(id(layer))
    if isinstance(found, Layer):
        return found
    copied = replace(layer, attributes=dict(layer.attributes))
    known[id(layer)] = copied
    return copied


def changed_copy(machine: Machine, arguments: Arguments) -> object:
    """Return `dataclasses.replace(object, **changes)`."""
    original = arguments.at(0)
    if not isinstance(original, Instance) or original.is_module or arguments.open:
        return UNKNOWN
    made = Instance(original.cls, original.base, original.site)
    made.state = {**original.state, **arguments.keywords}
    if original.cls is not None:
        finish_fields(machine, made, original.cls)
    return made
