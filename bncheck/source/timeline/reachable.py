"""Finds the models that code which has a value can get at."""

from __future__ import annotations

from bncheck.events import Model
from bncheck.source.timeline.heap import Heap
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import (
    Container,
    Function,
    Instance,
    Members,
    Method,
    Models,
    Opaque,
    Partial,
    Settings,
    Value,
)

_MAX_REACH = 24
"""Attributes and elements looked through for models."""


def reachable(heap: Heap, value: Value) -> list[Model]:
    """Return the models in reach of a value, by what is kept on the heap."""
    found: dict[Model, None] = {}
    seen: set[int] = set()
    stack = [value]
    while stack and len(seen) < _MAX_REACH:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        match value:
            case Models(models=models):
                found.update(dict.fromkeys(models))
            case Members(model=model, parameters=False):
                found[model] = None
            case Opaque():
                found.update(dict.fromkeys(value.holds))
                if value.model is not None:
                    found[value.model] = None
            case Container(elements=elements):
                stack.extend(elements)
            case Instance() | Settings():
                stack.extend(heap.of(value).values())
            case Method(value=receiver):
                stack.append(receiver)
            case Partial(value=called, positional=positional, keywords=keywords):
                stack += [called, *positional, *keywords.values()]
            case Function(receiver=receiver, outer=outer):
                if receiver is not None:
                    stack.append(receiver)
                while outer is not None:
                    used = identifiers(value.node)
                    stack.extend(v for name, v in outer.names.items() if name in used)
                    outer = outer.outer
    return list(found)
