"""How many dimensions and channels a tensor of the graph surely has, by the layers before."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from bncheck.graph import UNKNOWN, Kind, Node
from bncheck.sizes import total

_SPATIAL = frozenset({Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.POOLING, Kind.UPSAMPLING})
"""Kinds whose layers take a batch, channels and as many dimensions as their name says.

Padding is not among them: what pads two dimensions does so to a sequence as well.
"""
_KEEPS_SHAPE = frozenset(
    {
        Kind.ACTIVATION,
        Kind.DROPOUT,
        Kind.IDENTITY,
        Kind.INSTANCE_NORM,
        Kind.GROUP_NORM,
        Kind.LAYER_NORM,
    }
)
_KEEPS_RANK = _KEEPS_SHAPE | {
    Kind.BATCH_NORM,
    Kind.LINEAR,
    Kind.PADDING,
    Kind.UPSAMPLING,
}
_KEEPS_CHANNELS = _KEEPS_SHAPE | {Kind.POOLING, Kind.UPSAMPLING}
_CONVOLUTIONS = frozenset({Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION})


@dataclass(eq=False)
class Shapes:
    """Answers for the nodes of one graph, each worked out once."""

    _ranks: dict[int, int | None] = field(default_factory=dict)
    _channels: dict[int, object] = field(default_factory=dict)

    def rank(self, node: Node) -> int | None:
        """Return the number of dimensions of a node's output, the batch and channels included."""
        passed = [node]
        while _is_link(passed[-1]) and id(passed[-1]) not in self._ranks:
            passed.append(passed[-1].inputs[0])
        last = passed.pop()
        if id(last) not in self._ranks:
            self._ranks[id(last)] = None  # a cycle tells nothing
            self._ranks[id(last)] = self._own_rank(last)
        known = self._ranks[id(last)]
        for link in reversed(passed):
            change = link.get("rank_change")
            if known is not None and type(change) is int:
                known = known + change if known + change > 0 else None
            self._ranks[id(link)] = known
        return known

    def _own_rank(self, node: Node) -> int | None:
        if node.shape is not None:
            return len(node.shape)
        given = node.get("rank")
        if type(given) is int:
            return given
        dimensions = node.get("dimensions")
        if node.kind in _SPATIAL and type(dimensions) is int:
            unbatched = node.kind is Kind.POOLING and len(node.inputs) == 1
            if unbatched and self.rank(node.inputs[0]) == dimensions + 1:
                return dimensions + 1
            return dimensions + 2
        if node.kind in {Kind.JOIN, Kind.ADD, Kind.CONCAT} or node.get("elementwise") is True:
            found = {self.rank(source) for source in node.inputs}
            return found.pop() if len(found) == 1 else None
        return None

    def channels(self, node: Node) -> object:
        """Return the size of dimension 1 of a node's output: a number, a symbol or UNKNOWN."""
        if node.shape is not None:
            return node.shape[1] if len(node.shape) > 1 else UNKNOWN
        passed = []
        while (
            node.kind in _KEEPS_CHANNELS
            and len(node.inputs) == 1
            and id(node) not in self._channels
        ):
            passed.append(node)
            node = node.inputs[0]
        if id(node) not in self._channels:
            self._channels[id(node)] = UNKNOWN
            self._channels[id(node)] = self._own_channels(node)
        known = self._channels[id(node)]
        for link in passed:
            self._channels[id(link)] = known
        return known

    def _own_channels(self, node: Node) -> object:
        if node.kind in _CONVOLUTIONS:
            return node.get("out_channels")
        if node.kind is Kind.LINEAR:
            return node.get("out_channels") if self.rank(node) == 2 else UNKNOWN
        if node.kind is Kind.BATCH_NORM:
            # One that is wrong itself tells of no other: it will be given what reaches it.
            reaching = self.channels(node.inputs[0]) if len(node.inputs) == 1 else UNKNOWN
            return node.get("num_features") if reaching is UNKNOWN else reaching
        if node.kind is Kind.PADDING and node.layer is not None and len(node.inputs) == 1:
            return self.channels(node.inputs[0])
        if node.kind is Kind.CONCAT:
            whole = node.get("dimension") == 1 and node.inputs
            return total(map(self.channels, node.inputs)) if whole else UNKNOWN
        if node.kind is Kind.RESHAPE and len(node.inputs) == 1:
            return self._reshaped_channels(node)
        if node.kind in {Kind.JOIN, Kind.ADD} or node.get("elementwise") is True:
            found = {self.channels(source) for source in node.inputs}
            one_for_all = found == {1} and len(node.inputs) == 1  # and as many as a parameter has
            return found.pop() if len(found) == 1 and not one_for_all else UNKNOWN
        return UNKNOWN

    def _reshaped_channels(self, node: Node) -> object:
        """Return the channels of what is flattened behind a pooling, or shuffled into space."""
        factor, before = node.get("upscale_factor"), node.inputs[0]
        if type(factor) is int and factor > 0:
            reaching = self.channels(before)
            whole = type(reaching) is int and reaching % factor**2 == 0
            return reaching // factor**2 if whole and type(reaching) is int else UNKNOWN
        if node.get("flattened_from") != 1:
            return UNKNOWN
        while before.kind in _KEEPS_SHAPE | {Kind.BATCH_NORM} and len(before.inputs) == 1:
            before = before.inputs[0]
        places, reaching = _places(before), self.channels(node.inputs[0])
        if places == 1:
            return reaching
        return reaching * places if type(reaching) is int and places is not None else UNKNOWN


def _places(node: Node) -> int | None:
    """Return how many places of an image a pooling leaves, where its input surely has a batch."""
    size, dimensions = node.get("output_size"), node.get("dimensions")
    if node.kind is not Kind.POOLING or type(dimensions) is not int:
        return None
    sizes = size if isinstance(size, tuple) else (size,) * dimensions
    return prod(sizes) if all(type(one) is int and one > 0 for one in sizes) else None


def _is_link(node: Node) -> bool:
    """Tell whether a node's rank follows from that of its one input."""
    if len(node.inputs) != 1 or node.shape is not None or type(node.get("rank")) is int:
        return False
    if node.kind in _SPATIAL and type(node.get("dimensions")) is int:
        return False
    return (
        node.kind in _KEEPS_RANK
        or node.get("elementwise") is True
        or type(node.get("rank_change")) is int
    )
