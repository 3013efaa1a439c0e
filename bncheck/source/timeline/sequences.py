"""Follows methods of lists and dicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bncheck.source.timeline import choices, options
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.joining import put
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import NONE, Container, Opaque, Value

_ADDING = frozenset({"append", "add", "extend", "insert"})
_CHANGING = frozenset({"update", "setdefault", "pop", "popitem", "clear"})


def _added(run: Run, arguments: Arguments) -> Mapping[str, Value] | None:
    """Return what `update` adds to a dict, where all of it is known."""
    if len(arguments.positional) != 1 or arguments.keywords or not arguments.complete:
        return None
    given = arguments.positional[0]
    if isinstance(given, Container) and given.changed:
        return None
    return options.entries(run, given)


def method(run: Run, receiver: Container, name: str, arguments: Arguments) -> Value:
    """Follow `receiver.name(...)`."""
    if name in _ADDING and arguments.positional:
        added = arguments.positional[-1]
        more = added.elements if isinstance(added, Container) else (added,)
        receiver.elements = (*receiver.elements, *more)
        receiver.keys, receiver.grown = None, True
    elif name in {"values", "items"}:
        return Container(receiver.elements)
    elif name == "copy":
        return replace(receiver)
    elif name == "update" and (held := _added(run, arguments)) is not None:
        for entry, value in held.items():
            put(receiver, entry, value)
    elif name in _CHANGING:
        receiver.forget(name)
    elif name == "get" and arguments.positional:
        key, *default = arguments.positional
        if receiver.lacks(key):
            return default[0] if default else NONE
        if receiver.elements:
            return choices.of_container(run, receiver, key)
    return Opaque(holds=tuple(run.reachable(receiver)))
