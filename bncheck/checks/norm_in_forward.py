"""BN106: a BatchNorm that is new at each call."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import Kind, LayerGraph


@check("BN106", LayerGraph, unapplied=True)
def norm_in_forward(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm that the forward pass constructs anew."""
    for layer in graph.layers:
        if (
            layer.kind is Kind.BATCH_NORM
            and layer.site is not None
            and layer.get("built_in_forward") is True
        ):
            yield Match(
                layer.site,
                "BatchNorm is constructed anew by each forward pass: it learns nothing and its "
                "running statistics are lost",
                "construct it once in __init__ and apply it in forward",
            )
