"""BN111: BatchNorm where the models of its kind use another normalisation."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import PRODUCERS, Kind, LayerGraph, Node

_PASSES_ON = PRODUCERS | {
    Kind.ACTIVATION,
    Kind.ADD,
    Kind.DROPOUT,
    Kind.IDENTITY,
    Kind.RESHAPE,
}
_ENLARGES = frozenset({Kind.TRANSPOSED_CONVOLUTION, Kind.UPSAMPLING})
"""What makes no image of its features again has no style."""


@check("BN111", LayerGraph)
def norm_in_sequence_model(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm in a recurrent loop, a transformer block or a stylisation network."""
    seen: set[int] = set()
    kinds = {node.kind for node in graph.nodes}
    stylises = (
        Kind.INSTANCE_NORM in kinds
        and not kinds.isdisjoint(_ENLARGES)
        and kinds.isdisjoint({Kind.CONCAT, Kind.LINEAR})
    )
    for norm in graph.of_kind(Kind.BATCH_NORM):
        site = norm.layer.site if norm.layer is not None else norm.site
        if site is None or id(norm.layer or norm) in seen:
            continue
        advice = _objection(graph, norm, stylises)
        if advice is not None:
            seen.add(id(norm.layer or norm))
            yield Match(site, *advice)


def _objection(graph: LayerGraph, norm: Node, stylises: bool) -> tuple[str, str] | None:
    around = [*_reached(norm, forward=True), *_reached(norm, forward=False)]
    kinds = {node.kind for node in around}
    if Kind.ATTENTION in kinds:
        return (
            "BatchNorm inside an attention block mixes the positions of all sequences of a batch",
            "use LayerNorm, as transformers do",
        )
    repeated = norm.layer is not None and len(graph.uses(norm.layer)) > 1
    if repeated and any(
        node.kind is Kind.RECURRENT and node.layer is not None and len(graph.uses(node.layer)) > 1
        for node in around
    ):
        return (
            "one BatchNorm at every time step mixes statistics that differ from step to step",
            "use LayerNorm in recurrent cells",
        )
    if stylises:
        return (
            "BatchNorm beside InstanceNorm: the style of other images in the batch leaks in",
            "use InstanceNorm in the whole stylisation network",
        )
    return None


def _reached(start: Node, *, forward: bool) -> list[Node]:
    """Return the nodes next to a node, seen through what only passes a tensor on."""
    found: dict[int, Node] = {}
    pending = list(start.consumers if forward else start.inputs)
    while pending:
        node = pending.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        if node.kind in _PASSES_ON:
            pending += node.consumers if forward else node.inputs
    return list(found.values())
