"""Operators, on constants, symbols and tensors alike."""

from __future__ import annotations

from bncheck.graph import Kind, Site, Symbol
from bncheck.source.interpret.containers import is_sequence, joined
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.sequences import LONGEST, items_of
from bncheck.source.interpret.symbols import binary, compare
from bncheck.source.interpret.values import (
    UNKNOWN,
    Class,
    Dictionary,
    Either,
    External,
    Heap,
    Instance,
    List,
    Parameter,
    Tensor,
    Unknown,
    is_constant,
    may_be_missing,
    options,
    same,
    truth,
)


def tensor_of(machine: Machine, value: object, site: Site | None) -> Tensor | None:
    """Return the tensor that an operand is, joined where it may be one of several; else None."""
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, Either) or machine.graph is None:
        return None
    found = [option for option in value.options if isinstance(option, Tensor)]
    if not found:
        return None
    if any(isinstance(option, Unknown) for option in value.options):
        found.append(machine.add(Kind.OPAQUE, "unknown value", site, []))
        machine.doubt("unknown value")
    joined = found[0]
    for other in found[1:]:
        joined = machine.add(Kind.JOIN, "join", None, [joined, other])
    return joined


def binary_operation(
    machine: Machine, symbol: str, one: object, other: object, site: Site | None
) -> object:
    """Return `one <symbol> other`."""
    operands = [tensor_of(machine, value, site) for value in (one, other)]
    tensors = [operand for operand in operands if operand is not None]
    if tensors:
        for value, operand in zip((one, other), operands, strict=True):
            if operand is None and isinstance(value, Unknown):
                tensors.append(machine.add(Kind.OPAQUE, "unknown value", site, []))
        kind = Kind.ADD if symbol in {"+", "-"} else Kind.OPERATION
        facts: dict[str, object] = {} if symbol == "@" else {"elementwise": True}
        return machine.add(kind, symbol, site, tensors, facts)
    if isinstance(one, Parameter) or isinstance(other, Parameter):
        parameter = one if isinstance(one, Parameter) else other
        assert isinstance(parameter, Parameter)
        return parameter.computed
    if isinstance(one, Either) or isinstance(other, Either):
        results = [
            binary_operation(machine, symbol, left, right, site)
            for left in options(one)
            for right in options(other)
        ]
        return machine.join_all(results)
    if isinstance(one, List) or isinstance(other, List):
        return _list_operation(machine, symbol, one, other)
    if symbol == "+" and is_sequence(one) and is_sequence(other):
        return joined(machine, one, other, site)
    if isinstance(one, tuple) and isinstance(other, tuple) and symbol == "+":
        return one + other if len(one) + len(other) <= LONGEST else UNKNOWN
    if isinstance(one, Dictionary) and isinstance(other, Dictionary) and symbol == "|":
        known = one.state is not None and other.state is not None
        return Dictionary({**(one.state or {}), **(other.state or {})} if known else None)
    if (is_constant(one) or isinstance(one, Symbol)) and (
        is_constant(other) or isinstance(other, Symbol)
    ):
        return binary(symbol, one, other)
    if symbol == "*" and isinstance(one, tuple) and isinstance(other, int):
        return one * other if len(one) * other <= LONGEST else UNKNOWN
    return UNKNOWN


def _list_operation(machine: Machine, symbol: str, one: object, other: object) -> object:
    if symbol == "+" and isinstance(one, List) and isinstance(other, List):
        first, second = items_of(machine, one), items_of(machine, other)
        return List(None if first is None or second is None else first + second)
    if symbol == "*":
        items, times = (one, other) if isinstance(one, List) else (other, one)
        if not isinstance(items, List) or items.state is None or not isinstance(times, int):
            return List(None)
        if len(items.state) * times <= LONGEST:
            return List(items.state * times)
        return List(None)
    return UNKNOWN


def unary_operation(machine: Machine, symbol: str, value: object, site: Site | None) -> object:
    """Return `<symbol> value`."""
    if symbol == "not":
        known = truth(value)
        return UNKNOWN if known is None else not known
    tensor = tensor_of(machine, value, site)
    if tensor is not None:
        return machine.add(Kind.OPERATION, symbol, site, [tensor], {"elementwise": True})
    if isinstance(value, Parameter):
        return value
    if symbol == "-":
        return binary_operation(machine, "-", 0, value, site)
    if symbol == "+":
        return value
    return ~value if isinstance(value, int) and symbol == "~" else UNKNOWN


def comparison(
    machine: Machine, symbol: str, one: object, other: object, site: Site | None
) -> object:
    """Return the truth of a comparison, UNKNOWN where it is not known."""
    if symbol in {"is", "is not"}:
        known = _identical(one, other)
        return UNKNOWN if known is None else known is (symbol == "is")
    if symbol in {"in", "not in"}:
        known = _contains(other, one)
        return UNKNOWN if known is None else known is (symbol == "in")
    tensors = [value for value in (one, other) if isinstance(value, Tensor)]
    if tensors:
        return machine.add(Kind.OPERATION, symbol, site, tensors)
    if isinstance(one, Either) or isinstance(other, Either):
        found = {
            _compared(symbol, left, right) for left in options(one) for right in options(other)
        }
        known = found.pop() if len(found) == 1 else None
    else:
        known = _compared(symbol, one, other)
    return UNKNOWN if known is None else known


def _compared(symbol: str, one: object, other: object) -> bool | None:
    simple = [is_constant(value) or isinstance(value, Symbol) for value in (one, other)]
    if all(simple):
        return compare(symbol, one, other)
    if symbol in {"==", "!="}:
        if isinstance(one, (Unknown, Symbol)) or isinstance(other, (Unknown, Symbol)):
            return None
        if same(one, other):
            return symbol == "=="
        if any(simple) and not all(isinstance(value, (tuple, List)) for value in (one, other)):
            return symbol == "!="
        if isinstance(one, External) and isinstance(other, External):
            return symbol == "!="
    return None


def _identical(one: object, other: object) -> bool | None:
    found: set[bool | None] = set()
    for left in options(one):
        for right in options(other):
            if isinstance(left, (Unknown, Symbol)) or isinstance(right, (Unknown, Symbol)):
                found.add(True if isinstance(left, Symbol) and left == right else None)
            elif is_constant(left) or is_constant(right):
                found.add(type(left) is type(right) and left == right)
            elif isinstance(left, Tensor) and isinstance(right, Tensor):
                found.add(None)
            else:
                found.add(same(left, right))
    return found.pop() if len(found) == 1 else None


def _contains(container: object, value: object) -> bool | None:
    if isinstance(container, str) and isinstance(value, str):
        return value in container
    if isinstance(container, (tuple, frozenset)):
        items: list[object] | None = list(container)
    elif isinstance(container, (List, Dictionary)):
        items = None if container.state is None else list(container.state)
    elif isinstance(container, Instance) and container.base == "ModuleDict":
        items = list(container.state)
    else:
        return None
    if items is None or isinstance(value, (Unknown, Symbol, Either)):
        return None
    if any(same(item, value) for item in items):
        maybe = isinstance(container, Dictionary) and any(
            map(may_be_missing, (container.state or {}).values())
        )
        return None if maybe else True
    if all(_surely_differ(item, value) for item in items):
        return False
    return None


def _surely_differ(one: object, other: object) -> bool:
    """Tell whether two values, not the same as far as known, are surely not equal."""
    if isinstance(other, External) and not isinstance(one, Class):
        return is_constant(one) or isinstance(one, (External, Heap))
    if isinstance(one, Class) and isinstance(other, Class):
        return True
    if isinstance(other, Class):
        one, other = other, one
    if isinstance(one, Class):
        # What is not found under the name of an import may be the project's own after all.
        short = other.name.rpartition(".")[2] if isinstance(other, External) else None
        return short != one.name and (is_constant(other) or isinstance(other, (External, Heap)))
    return is_constant(other) and (is_constant(one) or isinstance(one, (External, Heap)))
