"""Calls that make or describe classes and functions: `namedtuple`, `inspect.signature`."""

from __future__ import annotations

from bncheck.graph import Site
from bncheck.source.interpret.attributes import find
from bncheck.source.interpret.layers import signature
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.sequences import known_items
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Class,
    Dictionary,
    External,
    Function,
    Instance,
    Native,
    Partial,
)


def named_tuple(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return `collections.namedtuple(...)`: what makes an object with those attributes."""
    given = arguments.positional[1] if len(arguments.positional) > 1 else UNKNOWN
    names = (
        given.replace(",", " ").split() if isinstance(given, str) else known_items(machine, given)
    )
    if names is None or not all(isinstance(name, str) for name in names):
        return UNKNOWN
    fields = [name for name in names if isinstance(name, str)]

    def make(machine: Machine, arguments: Arguments, site: Site | None) -> object:
        made = Instance(None, None, site)
        made.state = dict.fromkeys(fields, UNKNOWN)
        made.state.update(zip(fields, arguments.positional, strict=False))
        made.state.update(arguments.keywords)
        return made

    return Native("namedtuple", make)


def signature_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return `inspect.signature(...)`, of which the names of the parameters are known."""
    names = _parameters(arguments.positional[0]) if arguments.positional else None
    if names is None:
        return UNKNOWN
    made = Instance(None, None, site)
    made.state = {"parameters": Dictionary(dict.fromkeys(names, UNKNOWN))}
    return made


def _parameters(value: object) -> list[str] | None:
    if isinstance(value, Partial):
        return _parameters(value.function)
    if isinstance(value, External):
        prefix, _, short = value.name.rpartition(".")
        return [name for name, _ in signature(short)] or None if prefix == "torch.nn" else None
    skipped = 0 if isinstance(value, Function) and value.receiver is MISSING else 1
    initialiser = find(value, "__init__") if isinstance(value, Class) else value
    if not isinstance(initialiser, Function):
        return None
    parameters = initialiser.node.params
    positional = (*parameters.posonly_params, *parameters.params)[skipped:]
    names = [p.name.value for p in (*positional, *parameters.kwonly_params)]
    if parameters.star_kwarg is not None:
        names.append(parameters.star_kwarg.name.value)
    return names
