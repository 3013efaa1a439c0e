"""Which calls of a traced graph give a tensor that shares memory with another one's."""

from __future__ import annotations

from torch import fx

Groups = dict[fx.Node, set[fx.Node]]


class Aliases:
    """Groups of calls: those whose results share memory, and those with one and the same result."""

    def __init__(self) -> None:
        self._memory: Groups = {}
        self._values: Groups = {}

    def begin(self, node: fx.Node) -> None:
        """Note a call whose result may be looked at or written over later."""
        self._memory.setdefault(node, {node})
        self._values.setdefault(node, {node})

    def share(self, node: fx.Node, first: fx.Node, *, whole: bool) -> None:
        """Note that the result of `node` lies in that of `first`, and whether it is all of it."""
        _join(self._memory, node, first)
        if whole:
            _join(self._values, node, first)

    def known(self, node: fx.Node) -> bool:
        """Tell whether a call was noted."""
        return node in self._memory

    def sharing(self, node: fx.Node) -> list[fx.Node]:
        """Return the calls whose results share memory with that of `node`, itself among them."""
        return list(self._memory[node])

    def same(self, node: fx.Node) -> set[fx.Node]:
        """Return the calls that have the very result of `node`."""
        return self._values[node]


def _join(groups: Groups, one: fx.Node, other: fx.Node) -> None:
    if other not in groups:
        return
    merged = groups.setdefault(one, {one}) | groups[other]
    for member in merged:
        groups[member] = merged
