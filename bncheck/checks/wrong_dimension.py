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


@check("BN103", LayerGraph)
def wrong_dimension(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm of a fixed dimension whose input surely comes with another one."""
    for norm in graph.of_kind(Kind.BATCH_NORM):
        layer = norm.layer
        if layer is None or layer.site is None or len(norm.inputs) != 1:
            continue
        own = norm.get("dimensions")
        reaching = _dimensions(norm.inputs[0])
        if type(own) is int and reaching is not None and own != reaching:
            yield Match(
                layer.site,
                f"BatchNorm{own}d is given what a {reaching}d layer computes",
                f"use BatchNorm{reaching}d, or reshape between the two",
            )


def _dimensions(node: Node) -> int | None:
    """Return how many spatial dimensions a node's output surely has."""
    while True:
        if node.kind in _HAS_DIMENSIONS:
            dimensions = node.get("dimensions")
            return dimensions if type(dimensions) is int else None
        if node.kind is Kind.JOIN:
            found = {_dimensions(source) for source in node.inputs}
            return found.pop() if len(found) == 1 else None
        if node.kind not in _KEEPS_DIMENSIONS or len(node.inputs) != 1:
            return None
        node = node.inputs[0]
