"""What the constructor of a network is told, as the reader of networks takes it."""

from __future__ import annotations

import libcst as cst

from bncheck.graph import UNKNOWN
from bncheck.source.single import Given, Items, Layer, Mapped
from bncheck.source.timeline import classes, known, options
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Container,
    Function,
    Instance,
    Opaque,
    Outside,
    Settings,
    Value,
)

_DEEPEST = 4
"""Settings in settings that are looked into."""


def given(run: Run, cls: Class, arguments: Arguments) -> Given | None:
    """Return what each parameter of a constructor is given: what is known of it, or UNKNOWN.

    None where something is given that is none of its parameters.
    """
    params = _parameters(run, cls)
    named = {parameter.name.value for parameter in (*params.params[1:], *params.kwonly_params)}
    if not arguments.complete or not arguments.keywords.keys() <= named:
        return None
    if len(arguments.positional) > len(params.params[1:]):
        return None
    found = by_name(run, cls, arguments)
    required = {p.name.value for p in params.params[1:] if p.default is None} - found.keys()
    return frozenset((found | dict.fromkeys(required, UNKNOWN)).items())


def by_name(run: Run, cls: Class, arguments: Arguments) -> dict[str, object]:
    """Return what the parameters of a constructor are given by position or name, as far as seen."""
    params = _parameters(run, cls)
    positional = [parameter.name.value for parameter in params.params[1:]]
    named = {*positional, *(parameter.name.value for parameter in params.kwonly_params)}
    values = dict(zip(positional, arguments.positional, strict=False)) | arguments.keywords
    return {name: _plain(run, value) for name, value in values.items() if name in named}


def _parameters(run: Run, cls: Class) -> cst.Parameters:
    """Return the parameters of a class's constructor, `self` among them; none without one."""
    init = classes.find(run, cls, "__init__")
    return init.node.params if isinstance(init, Function) else cst.Parameters()


def fields(run: Run, value: Instance) -> options.Entries:
    """Return the fields of an object of a class, and what it was given since."""
    names = [
        name
        for cls in classes.ancestry(run.project, value.cls).project
        for name in classes.members(cls.node)
    ]
    found = {name: classes.find(run, value.cls, name) for name in names}
    constants = {name: field for name, field in found.items() if isinstance(field, Constant)}
    return {**constants, **run.heap.of(value)}


def _plain(run: Run, value: Value, depth: int = 0) -> object:
    match value:
        case Constant(value=constant):
            return constant
        case Container(elements=elements, keys=None, instead=(), grown=False):
            return Items(tuple(_plain(run, element, depth) for element in elements))
        case Outside(name=name) if _is_other_layer(name):
            return Layer(name, made=False)
        case Opaque(type_name=name) if _is_other_layer(name):
            return Layer(name, made=True)
        case Settings():
            return _mapped(run, options.entries(run, value) or {}, depth, is_object=True)
        case Instance():
            return _mapped(run, fields(run, value), depth, is_object=True)
        case Container(keys=tuple(), changed=False, instead=()):
            held = options.entries(run, value)
            return UNKNOWN if held is None else _mapped(run, held, depth, is_object=False)
    return UNKNOWN


def _is_other_layer(name: str) -> bool:
    """Recognise `torch.nn.ReLU`, and all of torch.nn but its norms and what others lie in."""
    package, _, last = name.rpartition(".")
    return (
        package == "torch.nn"
        and last not in known.BATCH_NORMS
        and last not in known.CONTAINERS
        and last[:1].isupper()
    )


def _mapped(run: Run, held: options.Entries, depth: int, *, is_object: bool) -> object:
    """Return settings by name; of an object only those that are known, since it may have more."""
    if depth == _DEEPEST:
        return UNKNOWN
    found = {name: _plain(run, value, depth + 1) for name, value in held.items()}
    known = {n: value for n, value in found.items() if not (is_object and value is UNKNOWN)}
    return Mapped(frozenset(known.items()), is_object)
