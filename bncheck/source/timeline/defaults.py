"""What is made with the settings that a script starts with, and what only another setting makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bncheck.source.timeline.heap import Heap
from bncheck.source.timeline.values import Constant, Models, Value


def outcome(test: Value) -> bool | None:
    """Tell how a test comes out unless a user sets something else; None: unknown."""
    if isinstance(test, Models) and test.exists is not None:
        test = test.exists
    return bool(test.value) if isinstance(test, Constant) else None


@dataclass
class Way:
    """What one side of a branch leaves behind."""

    heap: Heap
    names: Mapping[str, Value]


def mark(taken: Way, other: Way) -> None:
    """Note that what stands on the other way for a model of the one taken is another's choice."""
    for name, value in taken.names.items():
        instead([value], [other.names.get(name)])
    for owner, name in (*taken.heap.written_here(), *other.heap.written_here()):
        instead([taken.heap.get(owner, name)], [other.heap.get(owner, name)])


def instead(chosen: Iterable[Value | None], others: Iterable[Value | None]) -> None:
    """Note that others stand where the settings as they are choose these."""
    models = [model for value in chosen if isinstance(value, Models) for model in value.models]
    for other in others if models else ():
        for model in other.models if isinstance(other, Models) else ():
            if model not in models:
                model.by_default = False
