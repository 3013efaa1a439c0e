"""Objects of classes whose constructor is made from their annotated names, as a dataclass's is."""

from __future__ import annotations

from dataclasses import dataclass

from bncheck.graph import Site
from bncheck.source.interpret.attributes import bind, find
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.values import (
    UNKNOWN,
    Arguments,
    Class,
    External,
    Function,
    Instance,
)

_DECORATORS = ("dataclass", "attr.s", "attr.attrs", "attrs.define", "attrs.frozen")


@dataclass(frozen=True, slots=True, eq=False)
class FieldFactory:
    """`dataclasses.field(default_factory=...)`: each object gets what the factory makes."""

    factory: object


def has_fields(cls: Class) -> bool:
    """Tell whether a class's constructor takes its annotated names, as a dataclass's does."""
    return bool(cls.fields) and (
        any(name.endswith(_DECORATORS) for name in cls.decorators)
        or External("typing.NamedTuple") in cls.order
    )


def fill_fields(machine: Machine, instance: Instance, cls: Class, arguments: Arguments) -> None:
    """Run the constructor of such a class, and what the class does after it."""
    machine.change(instance)
    names = dict.fromkeys(
        name
        for ancestor in reversed(cls.order)
        if isinstance(ancestor, Class)
        for name in ancestor.fields
    )
    instance.state.update(zip(names, arguments.positional, strict=False))
    instance.state.update(arguments.keywords)
    for name in names:
        if name not in instance.state:
            default = UNKNOWN if arguments.open else _default(machine, cls, name)
            instance.state[name] = default
    finish_fields(machine, instance, cls)


def finish_fields(machine: Machine, instance: Instance, cls: Class) -> None:
    """Run `__post_init__`, where an object's class has one that takes nothing else."""
    from bncheck.source.interpret.calls import call

    found = find(cls, "__post_init__")
    if isinstance(found, Function):
        call(machine, bind(machine, found, instance, cls, None), Arguments(), None)


def field(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what the body of a class binds `dataclasses.field(...)` to."""
    for name in ("default_factory", "factory"):
        if name in arguments.keywords:
            return FieldFactory(arguments.keywords[name])
    return arguments.keywords.get("default", UNKNOWN)


def _default(machine: Machine, cls: Class, name: str) -> object:
    from bncheck.source.interpret.calls import call

    for ancestor in cls.order:
        if isinstance(ancestor, Class) and name in ancestor.namespace:
            default = ancestor.namespace[name]
            if isinstance(default, FieldFactory):
                return call(machine, default.factory, Arguments(), None)
            return default
    return UNKNOWN
