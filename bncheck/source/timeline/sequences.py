"""Follows methods of lists and dicts."""

from __future__ import annotations

from bncheck.source.timeline import choices
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import NONE, Container, Opaque, Value

_ADDING = frozenset({"append", "add", "extend", "insert"})
_CHANGING = frozenset({"update", "setdefault", "pop", "popitem", "clear"})


def method(run: Run, receiver: Container, name: str, arguments: Arguments) -> Value:
    """Follow `receiver.name(...)`."""
    if name in _ADDING and arguments.positional:
        added = arguments.positional[-1]
        more = added.elements if isinstance(added, Container) else (added,)
        receiver.elements = (*receiver.elements, *more)
        receiver.keys = None
    elif name in {"values", "items"}:
        return Container(receiver.elements)
    elif name == "copy":
        return Container(receiver.elements, receiver.keys, receiver.changed)
    elif name in _CHANGING:
        receiver.forget(name)
    elif name == "get" and arguments.positional:
        key, *default = arguments.positional
        if receiver.lacks(key):
            return default[0] if default else NONE
        if receiver.elements:
            return choices.of_container(run, receiver, key)
    return Opaque(holds=tuple(run.reachable(receiver)))
