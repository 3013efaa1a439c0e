"""BatchNorms that are constructed where no network was read: their constants, and nothing more.

A constructor behind a flag that is off, or in a class that was not understood, still says what
its momentum and eps are. A look at the text tells whether any is out of the ordinary; only then
the calls of the file are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import TypeGuard

import libcst as cst

from bncheck.graph import UNKNOWN, Kind, Layer, LayerGraph, Site
from bncheck.source.interpret.layers import layer_kind, make_layer
from bncheck.source.interpret.names import canonical
from bncheck.source.interpret.values import Arguments
from bncheck.source.literals import literal
from bncheck.source.module import Assigned, Binding, Imported, SourceModule, dotted
from bncheck.source.walk import walk

_CALL = re.compile(r"BatchNorm\w*\(((?:[^()]|\([^()]*\))*)\)")
_VALUE = re.compile(r",\s*(?:(\w+)\s*=\s*)?([\w.]+)\s*(?=,|$)")


def stray_norms(module: SourceModule, known: Container[Site]) -> LayerGraph | None:
    """Return the BatchNorms of torch.nn that a file constructs and that are not `known`.

    None where the text shows no value that a check may object to.
    """
    calls = (found.group(1) for found in _CALL.finditer(module.text))
    if not any(_is_odd(call, module) for call in calls):
        return None
    layers: list[Layer] = []
    for node in walk(module.tree):
        site = Site(module.path, node)
        if isinstance(node, cst.Call) and site not in known:
            name, given = _batch_norm(node, module), _arguments(node, module)
            if name is not None and given is not None:
                layers.append(make_layer(name, Kind.BATCH_NORM, given, site))
    return LayerGraph(module.name, layers=layers, complete=False)


def _is_odd(arguments: str, module: SourceModule) -> bool:
    """Tell whether any argument but the first may be an odd momentum or eps."""
    for keyword, text in _VALUE.findall(arguments):
        if keyword in {"", "momentum", "eps"}:
            bound = module.bindings.get(text, []) if text.isupper() else []
            value = _constant(bound[0].value, module) if _is_one_constant(bound) else text
            try:
                number = float(value) if isinstance(value, int | float | str) else 0.01
            except ValueError:
                number = 0.0 if text in {"True", "False"} else 0.01
            if number == 0 or number >= (0.5 if keyword == "momentum" else 0.1):
                return True
    return False


def _is_one_constant(bindings: list[Binding]) -> TypeGuard[list[Assigned]]:
    return len(bindings) == 1 and isinstance(bindings[0], Assigned)


def _batch_norm(call: cst.Call, module: SourceModule) -> str | None:
    """Return `BatchNorm2d` for a call of `torch.nn.BatchNorm2d`; None for another."""
    name = dotted(call.func)
    if name is None or "BatchNorm" not in name:
        return None
    head, _, rest = name.partition(".")
    for binding in module.bindings.get(head, ()):
        if isinstance(binding, Imported):
            parts = (binding.module, binding.attribute, rest)
            name = canonical(".".join(part for part in parts if part))
            prefix, _, short = name.rpartition(".")
            if prefix == "torch.nn" and layer_kind(short) is Kind.BATCH_NORM:
                return short
    return None


def _arguments(call: cst.Call, module: SourceModule) -> Arguments | None:
    if any(argument.star for argument in call.args):
        return None
    given = Arguments([], {})
    for argument in call.args:
        value = _constant(argument.value, module)
        if argument.keyword is None:
            given.positional.append(value)
        else:
            given.keywords[argument.keyword.value] = value
    return given


def _constant(node: cst.BaseExpression, module: SourceModule) -> object:
    """Return what a literal, or a name in capitals that is bound once to one, stands for."""
    match node:
        case cst.Integer() | cst.Float():
            return literal(node)
        case cst.Name(value="True" | "False" | "None" as name):
            return {"True": True, "False": False, "None": None}[name]
        case cst.Name(value=name) if name.isupper():
            values = module.bindings.get(name, [])
            if _is_one_constant(values):
                return _constant(values[0].value, module)
        case cst.BinaryOperation(operator=cst.Subtract(), left=left, right=right):
            numbers = (_constant(left, module), _constant(right, module))
            if all(type(number) in (int, float) for number in numbers):
                return numbers[0] - numbers[1]  # type: ignore[operator]
    return UNKNOWN
