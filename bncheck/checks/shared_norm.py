"""BN104: one BatchNorm for the outputs of several layers."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import Kind, Layer, LayerGraph, Node

_PASSES_ON = frozenset({Kind.IDENTITY, Kind.ACTIVATION, Kind.DROPOUT, Kind.POOLING, Kind.RESHAPE})


@check("BN104", LayerGraph)
def shared_norm(graph: LayerGraph) -> Iterator[Match]:
    """Yield each later application of a BatchNorm that normalises another layer's output.

    The same layers before it as well (siamese branches, a head on every level, a recurrent cell)
    are one sub-network that is applied again, which is a choice.
    """
    for layer in graph.layers:
        if layer.kind is not Kind.BATCH_NORM:
            continue
        uses = graph.uses(layer)
        for number, use in enumerate(uses):
            if any(_fed_by_others(graph, earlier, use) for earlier in uses[:number]) and use.site:
                yield Match(
                    use.site,
                    f"{layer.name or 'this BatchNorm'} normalises the output of several layers in "
                    "one forward pass, with one set of statistics",
                    "give each place its own BatchNorm",
                )


def _fed_by_others(graph: LayerGraph, first: Node, second: Node) -> bool:
    one, other = _source(first), _source(second)
    return (
        one is not None
        and other is not None
        and one is not other
        and _both_run(graph, first, second)
    )


def _source(norm: Node) -> Layer | None:
    """Return the layer whose output the norm is given."""
    node = norm
    while len(node.inputs) == 1:
        node = node.inputs[0]
        if node.layer is not None and node.kind not in _PASSES_ON:
            return node.layer
        if node.kind not in _PASSES_ON:
            return None
    return None


def _both_run(graph: LayerGraph, first: Node, second: Node) -> bool:
    """Tell whether two nodes surely run in one forward pass, not one or the other.

    One leads to the other, or something computes with both.
    """
    behind_first, behind_second = _behind(graph, first), _behind(graph, second)
    return id(second) in behind_first or any(
        node.kind not in {Kind.JOIN, Kind.OUTPUT, Kind.OPAQUE}
        and any(id(source) in behind_first for source in node.inputs)
        and any(id(source) in behind_second for source in node.inputs)
        for node in graph.nodes
    )


def _behind(graph: LayerGraph, start: Node) -> set[int]:
    """Return the ids of the node and of what surely gets its output: at a join all ways do."""
    found = {id(start)}
    for node in graph.nodes:
        reached = [id(source) in found for source in node.inputs]
        if any(reached) and (node.kind is not Kind.JOIN or all(reached)):
            found.add(id(node))
    return found
