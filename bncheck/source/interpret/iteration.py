"""Built-in functions of what can be iterated: `len`, `range`, `zip`, `sum` and others."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, cast

from bncheck.graph import Site, Symbol
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.sequences import (
    ROUNDS,
    items_of,
    known_items,
    known_rounds,
    rounds_of,
)
from bncheck.source.interpret.values import (
    UNKNOWN,
    Arguments,
    Dictionary,
    List,
    Unknown,
    is_constant,
    tensors_in,
    truth,
)

MOST_ITEMS: Final = 2_000
"""Longer ranges and repetitions are not followed."""


def length(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `len(...)` gives."""
    value = arguments.at(0)
    items = known_items(machine, value)
    if items is None and isinstance(value, Symbol):
        return Symbol(f"len({value.expression})")
    return UNKNOWN if items is None else len(items)


def range_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `range(...)` gives."""
    ends = arguments.positional
    if ends and all(isinstance(end, int) for end in ends) and len(ends) <= 3:
        try:
            numbers = range(*cast("list[int]", ends))
        except ValueError:
            return UNKNOWN
        return tuple(numbers) if len(numbers) <= MOST_ITEMS else UNKNOWN
    match ends:
        case [Symbol() | Unknown()] | [int(), Symbol() | Unknown()]:
            machine.guessed = True
            start = ends[0] if isinstance(ends[0], int) else 0
            return tuple(range(start, start + ROUNDS))
    return UNKNOWN


def enumerated(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `enumerate(...)` gives."""
    items = known_rounds(machine, arguments.at(0))
    start = arguments.keywords.get("start", arguments.at(1, 0))
    if items is None or not isinstance(start, int):
        return UNKNOWN
    return List([(number, item) for number, item in enumerate(items, start)])


def zipped(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `zip(...)` gives."""
    given = arguments.positional
    columns = [known_items(machine, value) for value in given if not isinstance(value, Symbol)]
    if columns and len(columns) < len(given) and None not in columns:
        count = min(len(column) for column in columns if column is not None)
        columns = [_as_many(machine, value, count) for value in given]
    elif not columns:
        columns = [known_rounds(machine, value) for value in given]
    if not columns or any(column is None for column in columns):
        return UNKNOWN
    return List(list(zip(*[column or [] for column in columns], strict=False)))


def _as_many(machine: Machine, value: object, count: int) -> list[object] | None:
    """Return the items of a value; a parameter has as many as what is iterated beside it."""
    if isinstance(value, Symbol):
        return [Symbol(f"{value.expression}[{place}]") for place in range(count)]
    return known_items(machine, value)


def list_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `list(...)` gives."""
    if not arguments.positional:
        return List([])
    return List(rounds_of(machine, arguments.positional[0]))


def tuple_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `tuple(...)` gives."""
    if not arguments.positional:
        return ()
    items = known_items(machine, arguments.positional[0])
    return UNKNOWN if items is None else tuple(items)


def dictionary_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `dict(...)` gives."""
    found: dict[object, object] = {}
    if arguments.open:
        return Dictionary(None)
    if arguments.positional:
        first = arguments.positional[0]
        if isinstance(first, Dictionary) and first.state is not None:
            found.update(first.state)
        else:
            pairs = known_items(machine, first) if not isinstance(first, Dictionary) else None
            if pairs is None:
                return Dictionary(None)
            for pair in pairs:
                parts = known_items(machine, pair)
                if parts is None or len(parts) != 2 or not is_constant(parts[0]):
                    return Dictionary(None)
                found[parts[0]] = parts[1]
    found.update(arguments.keywords)
    return Dictionary(found)


def set_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `set(...)` gives."""
    items = known_items(machine, arguments.at(0, ()))
    if items is None or not is_constant(tuple(items)):
        return UNKNOWN
    return frozenset(items)


def reversed_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `reversed(...)` gives."""
    items = known_items(machine, arguments.at(0))
    return List(None if items is None else items[::-1])


def sorted_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `sorted(...)` gives."""
    items = known_items(machine, arguments.at(0))
    if items is None or not is_constant(tuple(items)) or arguments.keywords:
        return List(None)
    try:
        return List(sorted(items))  # type: ignore[type-var]
    except TypeError:
        return List(None)


def mapped(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `map(...)` gives."""
    from bncheck.source.interpret.calls import call

    items = known_items(machine, arguments.at(1))
    if items is None or len(arguments.positional) != 2:
        return List(None)
    return List([call(machine, arguments.positional[0], Arguments([i]), site) for i in items])


def filtered(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `filter(...)` gives."""
    from bncheck.source.interpret.calls import call

    test, items = arguments.at(0), known_items(machine, arguments.at(1))
    found: list[object] = []
    for item in items or ():
        kept = truth(item if test is None else call(machine, test, Arguments([item]), site))
        if kept is None:
            return List(None)
        if kept:
            found.append(item)
    return List(None if items is None else found)


def every(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `all(...)` gives."""
    return _every(machine, arguments, False)


def some(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `any(...)` gives."""
    return _every(machine, arguments, True)


def _every(machine: Machine, arguments: Arguments, stop: bool) -> object:
    items = known_items(machine, arguments.at(0))
    if items is None:
        return UNKNOWN
    truths = [truth(item) for item in items]
    if stop in truths:
        return stop
    return UNKNOWN if None in truths else not stop


def chained(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `itertools.chain(...)` gives."""
    found: list[object] = []
    for value in arguments.positional:
        items = items_of(machine, value)
        if items is None:
            return List(None)
        found += items
    return List(found)


def chained_items(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `itertools.chain.from_iterable(...)` gives."""
    items = items_of(machine, arguments.at(0))
    return List(None) if items is None else chained(machine, Arguments(items), site)


def adjacent(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `itertools.pairwise(...)` gives."""
    items = known_items(machine, arguments.at(0))
    return List(None) if items is None else List(list(pairwise(items)))


def minimum(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `min(...)` gives."""
    return _extreme(machine, arguments, site, min)


def maximum(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `max(...)` gives."""
    return _extreme(machine, arguments, site, max)


def _extreme(machine: Machine, arguments: Arguments, site: Site | None, best: Any) -> object:
    if any(True for value in arguments.values() for _ in tensors_in(value)):
        return machine.opaque("min or max of tensors", site, [*arguments.values()])
    given: list[Any] | None = arguments.positional
    if len(arguments.positional) == 1:
        given = known_items(machine, arguments.positional[0])
    if given and all(isinstance(value, (int, float)) for value in given):
        return best(given)
    if (
        given
        and any(isinstance(value, Symbol) for value in given)
        and is_constant(tuple(value for value in given if not isinstance(value, Symbol)))
    ):
        texts = (v.expression if isinstance(v, Symbol) else repr(v) for v in given)
        return Symbol(f"{best.__name__}({', '.join(texts)})")
    return UNKNOWN


def total(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `sum(...)` gives."""
    from bncheck.source.interpret.operations import binary_operation

    items = known_items(machine, arguments.at(0))
    if items is None:
        return machine.opaque("sum", site, [*arguments.values()])
    if not items:
        return arguments.at(1, 0)
    result = items[0]
    for item in items[1:]:
        result = binary_operation(machine, "+", result, item, site)
    return result


def next_item(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `next(...)` gives."""
    value = arguments.at(0)
    if isinstance(value, List) and value.state:
        machine.change(value)
        items = known_items(machine, value)
        return UNKNOWN if items is None else value.state.pop(0)
    return UNKNOWN


def iterator_of(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `iter(...)` gives."""
    value = arguments.at(0)
    if isinstance(value, (tuple, List)):
        return List(items_of(machine, value))
    return value


def repeated(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `itertools.repeat(...)` gives."""
    value, times = arguments.at(0), arguments.at(1)
    if isinstance(times, int) and 0 <= times <= MOST_ITEMS:
        return List([value] * times)
    return UNKNOWN
