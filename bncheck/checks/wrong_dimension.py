"""BN103: BatchNorm1d, 2d or 3d after a layer of another dimension."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Confidence, Match
from bncheck.graph import NORMS, UNKNOWN, Kind, LayerGraph, Node
from bncheck.shapes import Shapes

_ACCEPTED = {1: (2, 3), 2: (4,), 3: (5,)}
"""Ranks of the inputs that torch's BatchNorm1d, 2d and 3d take."""
_PASSES_ON = frozenset({Kind.ACTIVATION, Kind.DROPOUT, Kind.IDENTITY})


@check("BN103", LayerGraph)
def wrong_dimension(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm of a fixed dimension whose input surely comes with another one.

    One that is right elsewhere in the same network may be kept from the place where it is wrong
    by a condition that the reader does not connect with the one around its construction. So may
    one that an option chooses among others.
    """
    shapes = Shapes()
    for norm in graph.of_kind(Kind.BATCH_NORM):
        layer = norm.layer
        if layer is None or layer.site is None:
            continue
        objection = _objection(shapes, norm)
        if objection is not None:
            uses = graph.uses(layer)
            elsewhere = len(uses) > 1 and not all(_objection(shapes, use) for use in uses)
            if elsewhere or _is_one_of_several(norm):
                objection = (*objection[:2], Confidence.POSSIBLE)
            yield Match(layer.site, *objection)


def _objection(shapes: Shapes, norm: Node) -> tuple[str, str, Confidence] | None:
    """Return what is wrong with the input of one application, what to do, and how sure it is."""
    own = norm.get("dimensions")
    if type(own) is not int or len(norm.inputs) != 1 or norm.get("functional") is True:
        return None  # `F.batch_norm` with a layer's statistics takes any number of dimensions
    rank = shapes.rank(norm.inputs[0])
    if rank is not None and rank not in _ACCEPTED.get(own, (rank,)):
        return (
            f"BatchNorm{own}d is given a tensor of {rank} dimensions",
            f"use BatchNorm{max(1, rank - 2)}d, or reshape between the two"
            if 2 <= rank <= 5
            else "reshape between the two",
            Confidence.PROVEN,
        )
    if rank is None and own > 1 and _counts_last(norm):
        return (
            f"BatchNorm{own}d takes the second of its input's dimensions for the channels, and "
            "the linear layer before it has computed the last",
            "use BatchNorm1d on two dimensions, or move the channels to the second",
            Confidence.LIKELY,
        )
    return None


def _is_one_of_several(norm: Node) -> bool:
    """Tell whether another norm may be applied in its place: the two meet at a join."""
    places = set(_joins(norm))
    return any(
        other is not norm and other.kind in NORMS and not places.isdisjoint(_joins(other))
        for other in norm.inputs[0].consumers
    )


def _joins(node: Node) -> Iterator[Node]:
    """Yield the joins that a node's output comes to directly."""
    for consumer in node.consumers:
        if consumer.kind is Kind.JOIN:
            yield consumer
            yield from _joins(consumer)


def _counts_last(norm: Node) -> bool:
    """Tell whether a norm is as wide as the last dimension, which a linear layer before it made."""
    node = norm.inputs[0]
    while node.kind in _PASSES_ON and len(node.inputs) == 1:
        node = node.inputs[0]
    width = node.get("out_channels") if node.kind is Kind.LINEAR else UNKNOWN
    return width is not UNKNOWN and width == norm.get("num_features")
