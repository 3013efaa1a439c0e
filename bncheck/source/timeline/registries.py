"""Tables of networks that decorators and assignments fill, in whichever file."""

from __future__ import annotations

from functools import lru_cache

import libcst as cst

from bncheck.source.interpret.effects import decorator_of, effects, fillers_of, filling
from bncheck.source.literals import literal
from bncheck.source.module import Assigned, SourceModule, dotted
from bncheck.source.project import Defined, Project
from bncheck.source.timeline.values import Class, Container, Function, Instance, Opaque, Value


def or_registered(
    project: Project, name: str, module: SourceModule, value: Value | None
) -> Value | None:
    """Return a name's value, or what other statements register, by key, where that says nothing."""
    empty = isinstance(value, Container) and not value.elements
    if not empty and not isinstance(value, Opaque | Instance):
        return value
    return registered(project, name, module) or value


@lru_cache(maxsize=4096)
def registered(project: Project, name: str, module: SourceModule) -> Container | None:
    """Return what is registered under which keys with an empty dict or a `Registry`.

    None where a name is something else, or nothing is registered in a way that is followed.
    """
    for meaning in project.resolve(name, module):
        match meaning:
            case Defined(module=origin, name=own, binding=Assigned(value=value)):
                return _filled(project, origin, own) if _is_empty_table(value) else None
    return None


def _is_empty_table(value: cst.BaseExpression | None) -> bool:
    match value:
        case cst.Dict(elements=()):
            return True
        case cst.Call(func=func, args=args):
            last = (dotted(func) or "").rpartition(".")[2]
            return last.endswith("Registry") or (last in {"dict", "OrderedDict"} and not args)
    return False


@lru_cache(maxsize=1024)
def _filled(project: Project, origin: SourceModule, name: str) -> Container | None:
    fillers = fillers_of(origin, name)
    found: dict[object, Value] = {}
    for module in (origin, *filling(project, origin, name, fillers)):
        for node in effects(module, name, fillers):
            match node:
                case cst.ClassDef() | cst.FunctionDef():
                    made = (
                        Class(node, module)
                        if isinstance(node, cst.ClassDef)
                        else Function(node, module, node.name.value)
                    )
                    found[_key(node, {name, *fillers})] = made
                case cst.Assign(
                    targets=[
                        cst.AssignTarget(
                            target=cst.Subscript(
                                slice=[cst.SubscriptElement(slice=cst.Index(value=key))]
                            )
                        )
                    ],
                    value=cst.Name(value=stored),
                ) if isinstance(key, cst.SimpleString):
                    for meaning in project.resolve(stored, module):
                        match meaning:
                            case Defined(module=where, binding=cst.ClassDef() as cls):
                                found[literal(key)] = Class(cls, where)
    return Container(tuple(found.values()), tuple(found)) if found else None


def _key(node: cst.ClassDef | cst.FunctionDef, registering: set[str]) -> object:
    """Return what a definition is registered under: what its decorator says, or its own name."""
    for decorator in node.decorators:
        if (dotted(decorator_of(decorator)) or "").partition(".")[0] in registering:
            call = decorator.decorator
            for argument in call.args if isinstance(call, cst.Call) else ():
                if isinstance(argument.value, cst.SimpleString):
                    return literal(argument.value)
    return node.name.value
