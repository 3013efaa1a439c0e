"""BN105: a BatchNorm that nothing applies."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import Kind, LayerGraph


@check("BN105", LayerGraph, unapplied=True)
def unused_norm(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm that is an attribute, in a forward pass understood fully without it."""
    if not graph.complete:
        return
    applied = {id(node.layer) for node in graph.nodes if node.layer is not None}
    for layer in graph.layers:
        if (
            layer.kind is Kind.BATCH_NORM
            and layer.site is not None
            and layer.name
            and id(layer) not in applied
            and layer.get("mentioned") is False
        ):
            yield Match(
                layer.site,
                f"{layer.name} is constructed, but the forward pass never applies it",
                "apply it or remove it; its running statistics stay at their initial values",
            )
