"""BN109: dropout whose output is normalised by a BatchNorm."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import PRODUCERS, Kind, LayerGraph, Node

_PASSES_ON = PRODUCERS | {
    Kind.ACTIVATION,
    Kind.DROPOUT,
    Kind.IDENTITY,
    Kind.PADDING,
    Kind.POOLING,
    Kind.RESHAPE,
    Kind.UPSAMPLING,
}


@check("BN109", LayerGraph)
def dropout_before_norm(graph: LayerGraph) -> Iterator[Match]:
    """Yield each dropout that reaches a BatchNorm with no other normalisation between."""
    for dropout in graph.of_kind(Kind.DROPOUT):
        site = dropout.layer.site if dropout.layer is not None else dropout.site
        if site is None or dropout.get("p") == 0:
            continue
        norm = _norm_fed_by(dropout)
        if norm is not None:
            yield Match(
                site,
                "dropout feeds a BatchNorm: it raises the variance in training only, so the "
                "running variance is wrong in eval mode",
                "put the dropout behind the last BatchNorm",
            )


def _norm_fed_by(node: Node) -> Node | None:
    pending = list(node.consumers)
    seen: set[int] = set()
    while pending:
        consumer = pending.pop()
        if consumer.kind is Kind.BATCH_NORM:
            return consumer
        if consumer.kind in _PASSES_ON and id(consumer) not in seen:
            seen.add(id(consumer))
            pending += consumer.consumers
    return None
