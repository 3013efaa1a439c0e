"""Functions that go over what they are given: `map`, `zip`, `enumerate` and the like."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from bncheck.source.timeline import calls
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.loops import UNROLLED
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    Container,
    Data,
    Function,
    Members,
    Opaque,
    Value,
)


def handed_back(arguments: Arguments) -> Value:
    """Return what a function gives back that only prepares what it is given."""
    given = arguments.positional or arguments.all()
    return Container(tuple(given)) if len(given) > 1 else given[0] if given else Opaque()


def mapped(run: Run, node: cst.Call, function: Function, arguments: Arguments) -> Value:
    """Follow a function for each of the elements that a `map` gives it."""
    over = arguments.get(1, "iterable")
    if isinstance(over, Members):
        calls.call_value(run, node, function, Arguments([replace(over, one=True)]))
        return Opaque()
    if not isinstance(over, Container):
        return calls.unknown_call(run, node, "map", arguments.all())
    one_by_one = over.elements[:UNROLLED]
    return Container(
        tuple(calls.call_value(run, node, function, Arguments([element])) for element in one_by_one)
    )


def zipped(run: Run, arguments: Arguments) -> Container | None:
    """Return the tuples of a `zip`, where what is in one of the lists is known."""
    lists = [v for v in arguments.positional if isinstance(v, Container) and v.keys is None]
    lengths = {len(value.elements) for value in lists}
    if not arguments.complete or len(lengths) != 1:
        return None
    return Container(
        tuple(
            Container(
                tuple(
                    value.elements[place]
                    if isinstance(value, Container) and value.keys is None
                    else Opaque(holds=tuple(run.reachable(value)))
                    for value in arguments.positional
                )
            )
            for place in range(lengths.pop())
        )
    )


def passed_through(run: Run, arguments: Arguments) -> Value:
    """Return the loader, the members or the list that a function goes over as it is."""
    values = arguments.all()
    for value in values:
        if isinstance(value, Data | Members):
            return value
    for value in values[:1]:
        if isinstance(value, Container) and len(values) == 1:
            return value
    return Opaque(holds=tuple(m for value in values for m in run.reachable(value)))
