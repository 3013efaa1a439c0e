"""Tells by its use in code that an attribute whose value is not known can't be a module."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bncheck.source.interpret.attributes import find
from bncheck.source.interpret.values import Class, Function, Instance
from bncheck.source.walk import walk_kinds

_IS_SET = re.compile(r"\s*=\s*\w+\s*(?:#.*)?")
_IS_NAMED = re.compile(r"\s*(?::\s*[\w.\[\], ]+)?=\s*(?P<given>\w+)\s*(?:#.*)?")
"""An attribute is set to what has a name."""
_IS_SET_AT_ALL = re.compile(r"\s*(?::\s*[\w.\[\], ]+)?=(?!=)")
_IS_TESTED = re.compile(r"\s*(?::|[-+*/%<>]|[=!]=|and\b|else\b)")
"""What follows on a number or a truth value, and on no module but in a test."""
_PLAIN = frozenset({"int", "float", "bool", "str"})


def cannot_be_module(part: Instance, name: str) -> bool:
    """Tell whether an attribute, in all that the file of its object's class does, is no module.

    It is only kept as it was given, it is a number, a truth value or a text that the constructor
    is given, or it is set and then only tested or calculated with.
    """
    if part.cls is None:
        return False
    uses = re.findall(rf"\.{re.escape(name)}\b([^\n]*)", part.cls.module.text)
    if len(uses) == 1 and _IS_SET.fullmatch(uses[0]):
        return True
    set_to = [_IS_NAMED.fullmatch(use) for use in uses if _IS_SET_AT_ALL.match(use)]
    if set_to and all(found and found["given"] in _plain(part.cls) for found in set_to):
        return True
    others = [use for use in uses if not _IS_SET_AT_ALL.match(use)]
    return bool(set_to and others) and all(_IS_TESTED.match(use) for use in others)


def _plain(cls: Class) -> frozenset[str]:
    """Return the constructor's parameters that are numbers, truth values or texts."""
    init = find(cls, "__init__")
    if not isinstance(init, Function):
        return frozenset()
    parameters = init.node.params
    return frozenset(_plain_parameters([*parameters.params, *parameters.kwonly_params]))


def _plain_parameters(parameters: list[cst.Param]) -> Iterator[str]:
    for parameter in parameters:
        annotation = parameter.annotation
        if annotation is not None:
            names = {name.value for name in walk_kinds(annotation.annotation, (cst.Name,))}
            if names & _PLAIN and names <= _PLAIN | {"Optional", "None"}:
                yield parameter.name.value
            continue
        match parameter.default:
            case cst.Integer() | cst.Float() | cst.Name(value="True" | "False"):
                yield parameter.name.value
