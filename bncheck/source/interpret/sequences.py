"""Iteration, and the methods of lists, dictionaries and strings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bncheck.graph import Site, Symbol
from bncheck.source.interpret.layers import any_layer
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.problems import PathEndsError
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Branches,
    Dictionary,
    Either,
    External,
    Instance,
    List,
    Native,
    Tensor,
    children,
    is_constant,
    may_be_missing,
    same,
)

LONGEST: Final = 10_000
_MOST_ITEMS = 5_000
ROUNDS = 2
"""How many items a parameter of which nothing is known is taken to have, where it is iterated."""


_NAMED_TUPLE: Final = External("typing.NamedTuple")


def items_of(machine: Machine, value: object) -> list[object] | None:
    """Return what iterating over a value gives, in order; None where that is not known.

    An item may be `Branches`, which stands for none, one or several items. More than `LONGEST` are
    not known: a list that is added to itself again and again would grow without bound.
    """
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, List):
        known = value.state is not None and len(value.state) <= LONGEST
        return list(value.state or ()) if known else None
    if isinstance(value, Dictionary):
        if value.state is None or any(map(may_be_missing, value.state.values())):
            return None
        return list(value.state)
    if isinstance(value, Instance):
        if value.base in {"Sequential", "ModuleList", "ParameterList"}:
            found = [child for _, child in children(value)]
            return found if len(found) <= LONGEST else None
        if value.base == "ModuleDict":
            return [name for name, _ in children(value)]
        if value.cls is not None and _NAMED_TUPLE in value.cls.order:
            return [value.state.get(name, UNKNOWN) for name in value.cls.fields]
        return None
    if isinstance(value, (str, frozenset)) and len(value) < _MOST_ITEMS:
        return list(value)
    return None


def items_by_path(machine: Machine, value: object) -> Branches | None:
    """Return the items of one of several lists, a run for each; None where any is not known."""
    if not isinstance(value, Either):
        return None
    runs = [items_of(machine, option) for option in value.options]
    if any(map(_of_unknown_length, runs)):
        return None
    return Branches(tuple(tuple(run) for run in runs if run is not None))


def rounds_of(machine: Machine, value: object) -> list[object] | None:
    """Return the items that a loop goes through; a parameter is taken to have a few."""
    if isinstance(value, Symbol):
        machine.guessed = True
        return [Symbol(f"{value.expression}[{place}]") for place in range(ROUNDS)]
    return items_of(machine, value)


def known_items(machine: Machine, value: object) -> list[object] | None:
    """Return the items of a value as `items_of` does, but None where any is `Branches`."""
    items = items_of(machine, value)
    return None if _of_unknown_length(items) else items


def known_rounds(machine: Machine, value: object) -> list[object] | None:
    """Return the items of a value as `rounds_of` does, but None where any is `Branches`."""
    items = rounds_of(machine, value)
    return None if _of_unknown_length(items) else items


def _of_unknown_length(items: list[object] | None) -> bool:
    return items is None or any(isinstance(item, Branches) for item in items)


def method(value: object, name: str) -> object:
    """Return a method of a list, dictionary, string or tuple; UNKNOWN where it has none."""
    table: dict[str, Any] = {}
    if isinstance(value, List):
        table = _LIST
    elif isinstance(value, Dictionary):
        table = _DICTIONARY
    elif isinstance(value, (str, tuple)) and name in _PURE:
        return Native(name, lambda m, a, s: _pure(value, name, a))
    found = table.get(name)
    if found is None:
        return Native(name, lambda m, a, s: _forget(m, value, a, s))
    return Native(name, lambda m, a, s: found(m, value, a))


def _forget(machine: Machine, value: object, arguments: Arguments, site: Site | None) -> object:
    if isinstance(value, (List, Dictionary)):
        machine.change(value)
        value.state = None
    return machine.opaque("unknown method", site, list(arguments.values()))


def _first(arguments: Arguments, position: int = 0, default: object = MISSING) -> object:
    if len(arguments.positional) > position:
        return arguments.positional[position]
    return default


def _append(machine: Machine, value: List, arguments: Arguments) -> object:
    machine.change(value)
    if value.state is not None:
        value.state.append(_first(arguments, default=UNKNOWN))
    else:
        machine.opaque("unknown list", None, arguments.positional)
    return None


def _extend(machine: Machine, value: List, arguments: Arguments) -> object:
    machine.change(value)
    items = items_of(machine, _first(arguments))
    if value.state is not None and items is not None:
        value.state.extend(items)
    else:
        value.state = None
    return None


def _insert(machine: Machine, value: List, arguments: Arguments) -> object:
    machine.change(value)
    place = _first(arguments)
    simple = value.state is not None and not any(isinstance(i, Branches) for i in value.state)
    if simple and isinstance(place, int) and value.state is not None:
        value.state.insert(place, _first(arguments, 1, UNKNOWN))
    else:
        value.state = None
    return None


def _pop(machine: Machine, value: List, arguments: Arguments) -> object:
    machine.change(value)
    place = _first(arguments, default=-1)
    if not isinstance(place, int) or _of_unknown_length(_up_to(value.state, place)):
        value.state = None
        return UNKNOWN
    assert value.state is not None
    try:
        return value.state.pop(place)
    except IndexError:
        raise PathEndsError from None


def _up_to(items: list[object] | None, place: int) -> list[object] | None:
    """Return the items that are counted on the way to a place, from the nearer end."""
    if items is None:
        return None
    return items[: place + 1] if place >= 0 else items[place:]


def delete_item(machine: Machine, value: List | Dictionary, place: object) -> None:
    """Run `del value[place]`."""
    if isinstance(value, Dictionary):
        _take(machine, value, Arguments([place]))
    elif not isinstance(place, slice):
        _pop(machine, value, Arguments([place]))
    else:
        machine.change(value)
        if value.state is None or _of_unknown_length(value.state):
            value.state = None
        else:
            del value.state[place]


def _reverse(machine: Machine, value: List, arguments: Arguments) -> object:
    machine.change(value)
    if value.state is not None:
        value.state = [
            Branches(tuple(tuple(reversed(run)) for run in item.options))
            if isinstance(item, Branches)
            else item
            for item in reversed(value.state)
        ]
    return None


def _index(machine: Machine, value: List, arguments: Arguments) -> object:
    wanted = _first(arguments)
    for place, known in enumerate(value.state or ()):
        if not is_constant(known):
            return UNKNOWN
        if same(known, wanted):
            return place
    return UNKNOWN


def _copy(machine: Machine, value: Any, arguments: Arguments) -> object:
    return type(value)(value.snapshot())


def _clear(machine: Machine, value: Any, arguments: Arguments) -> object:
    machine.change(value)
    value.state = type(value.state)() if value.state is not None else None
    return None


_LIST: dict[str, Callable[[Machine, Any, Arguments], object]] = {
    "append": _append,
    "extend": _extend,
    "insert": _insert,
    "pop": _pop,
    "reverse": _reverse,
    "index": _index,
    "copy": _copy,
    "clear": _clear,
}


def _get(machine: Machine, value: Dictionary, arguments: Arguments) -> object:
    key, default = _first(arguments), _first(arguments, 1, None)
    if value.state is None:
        return UNKNOWN
    if not (is_constant(key) or isinstance(key, External)):
        return any_layer([*value.state.values()] + [default] * (default is not None))
    found = value.state.get(key, default)
    if may_be_missing(found):
        return UNKNOWN
    return found


def _take(machine: Machine, value: Dictionary, arguments: Arguments) -> object:
    key, default = _first(arguments), _first(arguments, 1)
    machine.change(value)
    if value.state is None or not is_constant(key):
        value.state = None
        return UNKNOWN
    found = value.state.pop(key, default)
    if found is MISSING:
        raise PathEndsError
    return found


def _set_default(machine: Machine, value: Dictionary, arguments: Arguments) -> object:
    key, default = _first(arguments), _first(arguments, 1, None)
    machine.change(value)
    if value.state is None or not is_constant(key):
        value.state = None
        return UNKNOWN
    return value.state.setdefault(key, default)


def _update(machine: Machine, value: Dictionary, arguments: Arguments) -> object:
    machine.change(value)
    more = _first(arguments, default=Dictionary({}))
    if (
        value.state is None
        or not isinstance(more, Dictionary)
        or more.state is None
        or arguments.open
    ):
        value.state = None
    else:
        value.state.update(more.state)
        value.state.update(arguments.keywords)
    return None


def _keys(machine: Machine, value: Dictionary, arguments: Arguments) -> object:
    return List(None if value.state is None else list(value.state))


def _values(machine: Machine, value: Dictionary, arguments: Arguments) -> object:
    return List(None if value.state is None else list(value.state.values()))


def _items(machine: Machine, value: Dictionary, arguments: Arguments) -> object:
    return List(None if value.state is None else list(value.state.items()))


_DICTIONARY: dict[str, Callable[[Machine, Any, Arguments], object]] = {
    "get": _get,
    "pop": _take,
    "setdefault": _set_default,
    "update": _update,
    "keys": _keys,
    "values": _values,
    "items": _items,
    "copy": _copy,
    "clear": _clear,
}

_PURE = frozenset(
    {
        "format", "lower", "upper", "strip", "lstrip", "rstrip", "startswith", "endswith",
        "split", "rsplit", "replace", "join", "title", "capitalize", "isdigit", "find", "count",
        "index", "partition", "rpartition", "removeprefix", "removesuffix", "isalpha", "isupper",
        "islower",
    }
)  # fmt: skip


def _pure(value: Any, name: str, arguments: Arguments) -> object:
    given = [
        tuple(a.state) if isinstance(a, List) and a.state is not None else a
        for a in arguments.positional
    ]
    if not is_constant(tuple(given)) or not is_constant(tuple(arguments.keywords.values())):
        return UNKNOWN
    if name == "format" and any(mark in value for mark in (":", "!", "[", ".")):
        return UNKNOWN
    try:
        result = getattr(value, name)(*given, **arguments.keywords)
    except (TypeError, ValueError, LookupError, AttributeError):
        return UNKNOWN
    if isinstance(result, str) and len(result) > 100_000:
        return UNKNOWN
    return List(list(result)) if isinstance(result, list) else result


def element(machine: Machine, value: object, place: object) -> object:
    """Return `value[place]` for a tuple, list, dictionary, string or container module."""
    if isinstance(value, (tuple, str)):
        if isinstance(place, (int, slice)):
            try:
                return value[place]
            except IndexError:
                raise PathEndsError from None
        return any_layer(value)
    if isinstance(value, List):
        return _list_element(machine, value, place)
    if isinstance(value, Dictionary):
        if value.state is None or not (is_constant(place) or isinstance(place, External)):
            return _one_of(machine, value)
        if place in value.state:
            return value.state[place]
        return UNKNOWN
    return UNKNOWN


def _one_of(machine: Machine, value: Dictionary) -> object:
    """Return the value for an unknown key: any of a few."""
    if value.state is None or not value.state:
        return UNKNOWN
    found = list(value.state.values())
    if len(found) > 4:
        return any_layer(found)
    return UNKNOWN if any(isinstance(v, Tensor) for v in found) else machine.join_all(found)


def _list_element(machine: Machine, value: List, place: object) -> object:
    items = value.state
    if items is None:
        return UNKNOWN
    if isinstance(place, int):
        if _of_unknown_length(_up_to(items, place)):
            return UNKNOWN
        try:
            return items[place]
        except IndexError:
            if machine.guessed or any(isinstance(item, Branches) for item in items):
                return UNKNOWN  # there may be more items than the rounds that were assumed
            raise PathEndsError from None
    if isinstance(place, slice):
        if any(isinstance(item, Branches) for item in items):
            return List(None)
        return List(items[place])
    return any_layer(items)
