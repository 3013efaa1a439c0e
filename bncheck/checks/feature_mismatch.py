"""BN102: a BatchNorm for another number of channels than reaches it."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import Kind, LayerGraph, Symbol
from bncheck.shapes import Shapes
from bncheck.sizes import surely_differ


@check("BN102", LayerGraph)
def feature_mismatch(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm whose `num_features` is provably not the channels of its input."""
    if graph.guessed:
        return
    shapes = Shapes()
    for norm in graph.of_kind(Kind.BATCH_NORM):
        expected = norm.get("num_features")
        if norm.layer is None or norm.layer.site is None or len(norm.inputs) != 1:
            continue
        reaching = shapes.channels(norm.inputs[0])
        if surely_differ(expected, reaching):
            yield Match(
                norm.layer.site,
                f"BatchNorm for {_shown(expected)} channels is given {_shown(reaching)}",
                f"pass num_features={_shown(reaching)}",
            )


def _shown(value: object) -> str:
    return value.expression if isinstance(value, Symbol) else str(value)
