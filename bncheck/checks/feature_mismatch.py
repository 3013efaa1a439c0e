"""BN102: a BatchNorm for another number of channels than reaches it."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Confidence, Match
from bncheck.graph import Kind, LayerGraph, Node, Symbol
from bncheck.shapes import Shapes
from bncheck.sizes import surely_differ


@check("BN102", LayerGraph)
def feature_mismatch(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm whose `num_features` is provably not the channels of its input.

    One that is right elsewhere in the same network is only possibly wrong, as in BN103.
    """
    if graph.guessed:
        return
    shapes = Shapes()
    for norm in graph.of_kind(Kind.BATCH_NORM):
        if norm.layer is None or norm.layer.site is None or not _is_wrong(shapes, norm):
            continue
        uses = graph.uses(norm.layer)
        everywhere = len(uses) == 1 or all(_is_wrong(shapes, use) for use in uses)
        expected, reaching = norm.get("num_features"), shapes.channels(norm.inputs[0])
        yield Match(
            norm.layer.site,
            f"BatchNorm for {_shown(expected)} channels is given {_shown(reaching)}",
            f"pass num_features={_shown(reaching)}",
            Confidence.PROVEN if everywhere else Confidence.POSSIBLE,
        )


def _is_wrong(shapes: Shapes, norm: Node) -> bool:
    return len(norm.inputs) == 1 and surely_differ(
        norm.get("num_features"), shapes.channels(norm.inputs[0])
    )


def _shown(value: object) -> str:
    return value.expression if isinstance(value, Symbol) else str(value)
