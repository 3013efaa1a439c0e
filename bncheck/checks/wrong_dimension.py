"""BN103: BatchNorm1d, 2d or 3d after a layer of another dimension."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import Kind, LayerGraph, Node

_KEEPS_DIMENSIONS = frozenset(
    {
        Kind.ACTIVATION,
        Kind.DROPOUT,
        Kind.IDENTITY,
        Kind.BATCH_NORM,
        Kind.INSTANCE_NORM,
        Kind.GROUP_NORM,
    }
)
_HAS_DIMENSIONS = frozenset(
    {Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.POOLING, Kind.UPSAMPLING}
)
_KEEPS_RANK = _KEEPS_DIMENSIONS | {Kind.LINEAR, Kind.LAYER_NORM}
_ACCEPTED = {1: (2, 3), 2: (4,), 3: (5,)}
"""Ranks of the inputs that torch's BatchNorm1d, 2d and 3d take."""


@check("BN103", LayerGraph)
def wrong_dimension(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm of a fixed dimension whose input surely comes with another one."""
    for norm in graph.of_kind(Kind.BATCH_NORM):
        layer = norm.layer
        if layer is None or layer.site is None or len(norm.inputs) != 1:
            continue
        own = norm.get("dimensions")
        if type(own) is not int:
            continue
        reaching = _dimensions(norm.inputs[0])
        rank = _rank(norm.inputs[0]) if reaching is None else None
        if reaching is not None and own != reaching:
            yield Match(
                layer.site,
                f"BatchNorm{own}d is given what a {reaching}d layer computes",
                f"use BatchNorm{reaching}d, or reshape between the two",
            )
        elif rank is not None and rank not in _ACCEPTED.get(own, (rank,)):
            yield Match(
                layer.site,
                f"BatchNorm{own}d is given a tensor of {rank} dimensions",
                f"use BatchNorm{max(1, rank - 2)}d"
                if 2 <= rank <= 5
                else "reshape between the two",
            )


def _rank(node: Node) -> int | None:
    """Return how many dimensions a node's output surely has, as a reshape before it says."""
    while node.kind in _KEEPS_RANK:
        if len(node.inputs) != 1:
            return None
        node = node.inputs[0]
    rank = node.get("rank")
    return rank if node.kind is Kind.RESHAPE and type(rank) is int else None


def _dimensions(node: Node) -> int | None:
    """Return how many spatial dimensions a node's output surely has."""
    while True:
        if node.kind in _HAS_DIMENSIONS:
            dimensions = node.get("dimensions")
            return dimensions if type(dimensions) is int else None
        if node.kind in {Kind.JOIN, Kind.ADD}:
            found = {_dimensions(source) for source in node.inputs}
            return found.pop() if len(found) == 1 else None
        if node.kind not in _KEEPS_DIMENSIONS or len(node.inputs) != 1:
            return None
        node = node.inputs[0]
