"""What a name at the top of another module is assigned there: numbers, texts, and what holds them.

The module's body isn't run for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import libcst as cst

from bncheck.graph import UNKNOWN
from bncheck.source.module import dotted
from bncheck.source.timeline import operators
from bncheck.source.timeline.constants import module_constant
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Container,
    Function,
    Opaque,
    Outside,
    Value,
)

Meanings = Callable[[str], Value | None]
"""What a dotted name stands for in that module."""


def value_of(node: cst.BaseExpression, meaning: Meanings) -> Value:
    """Return what an expression at the top of a module is, as far as names and constants say."""
    match node:
        case cst.Dict(elements=entries):
            return _table(entries, meaning)
        case cst.Call(func=cst.Name(value="dict"), args=arguments) if all(
            argument.keyword is not None for argument in arguments
        ):
            keywords = [a.keyword.value for a in arguments if a.keyword is not None]
            return Container(_values((a.value for a in arguments), meaning), tuple(keywords))
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            found = _values((element.value for element in elements), meaning)
            known = bool(found) and all(isinstance(value, _KNOWN) for value in found)
            return Container(found) if known else Opaque()
        case cst.BinaryOperation(left=left, operator=operator, right=right):
            one, other = _values((left, right), meaning)
            return operators.binary(one, operator, other)
    return module_constant(node)


_KNOWN = (Constant, Class, Function, Outside)
"""What a list at the top of a module may hold to be taken as one."""


def _values(nodes: Iterable[cst.BaseExpression], meaning: Meanings) -> tuple[Value, ...]:
    return tuple(_entry(node, meaning) for node in nodes)


def _entry(node: cst.BaseExpression, meaning: Meanings) -> Value:
    name = dotted(node)
    if name is None or name == "None":
        return value_of(node, meaning)
    return meaning(name) or Opaque(name)


def _table(entries: Iterable[cst.BaseDictElement], meaning: Meanings) -> Value:
    """Return a dict: names to what stands under other names in the module, or in place."""
    keys: list[object] = []
    values: list[Value] = []
    for entry in entries:
        if not isinstance(entry, cst.DictElement):
            return Opaque()
        key = module_constant(entry.key)
        keys.append(key.value if isinstance(key, Constant) else UNKNOWN)
        values.append(_entry(entry.value, meaning))
    return Container(tuple(values), tuple(keys))
