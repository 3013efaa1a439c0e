"""What is made with the settings that a script starts with, and what only another setting makes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from bncheck.events import Model
from bncheck.source.timeline.heap import Heap
from bncheck.source.timeline.values import Constant, Models, Value


def outcome(test: Value) -> bool | None:
    """Tell how a test comes out unless a user sets something else; None: unknown."""
    if isinstance(test, Models) and test.exists is not None:
        test = test.exists
    return bool(test.value) if isinstance(test, Constant) else None


@dataclass
class _Way:
    """What one side of a branch leaves behind, and which models ran first on it."""

    heap: Heap
    names: Mapping[str, Value]
    ran: slice


class Sides:
    """The sides of a branch, one after the other, with the models that have run so far."""

    def __init__(self, ran: Mapping[Model, object]) -> None:
        self._ran = ran
        self._before = self._last = len(ran)
        self._ways: list[_Way] = []

    def add(self, heap: Heap, names: Mapping[str, Value]) -> None:
        """Take what a side leaves behind once it was followed."""
        first = self._last
        self._last = len(self._ran)
        self._ways.append(_Way(heap, names, slice(first, self._last)))

    def settle(self, taken: int | None) -> None:
        """Note that what stands for a model on another side than the one taken is another's choice.

        What has run before, or runs on the side taken, is no other's choice though a model that
        is made later takes its name.
        """
        if taken is None:
            return
        chosen = self._ways[taken]
        every = list(self._ran)
        ran = every[: self._before] + every[chosen.ran]
        for other in self._ways[:taken] + self._ways[taken + 1 :]:
            _mark(chosen, other, ran)


def _mark(taken: _Way, other: _Way, ran: Collection[Model]) -> None:
    for name, value in taken.names.items():
        instead([value], [other.names.get(name)], ran)
    for owner, name in (*taken.heap.written_here(), *other.heap.written_here()):
        instead([taken.heap.get(owner, name)], [other.heap.get(owner, name)], ran)


def instead(
    chosen: Iterable[Value | None], others: Iterable[Value | None], ran: Collection[Model] = ()
) -> None:
    """Note that others stand where the settings as they are choose these.

    What `ran` with those settings is none of them.
    """
    models = [model for value in chosen if isinstance(value, Models) for model in value.models]
    for other in others if models else ():
        for model in other.models if isinstance(other, Models) else ():
            if model not in models and model not in ran:
                model.by_default = False
