"""BN104: one BatchNorm for the outputs of several layers."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import Kind, Layer, LayerGraph, Node, Site

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
            # What applies a Sequential of a name of the module is not seen: then the norm's stands.
            site = use.site or layer.site
            if any(_fed_by_others(graph, earlier, use) for earlier in uses[:number]) and site:
                yield Match(
                    site,
                    f"{layer.name or 'this BatchNorm'} normalises the output of several layers in "
                    "one forward pass, with one set of statistics",
                    "give each place its own BatchNorm",
                )


def _fed_by_others(graph: LayerGraph, first: Node, second: Node) -> bool:
    one, other = _source(first), _source(second)
    if one is None or other is None or one == other:
        return False
    if isinstance(one, Layer) and isinstance(other, Layer):
        return _both_run(graph, first, second)
    # An operation, or the input, may stand where a shared sub-network begins.
    if isinstance(one, Node) and isinstance(other, Node):
        return False
    return id(second) in _behind(graph, first) and not (_readers(first) & _readers(second))


def _source(norm: Node) -> Layer | Site | Node | None:
    """Return what computes a norm's input: a layer, where an operation stands, or an input."""
    node = norm
    while len(node.inputs) == 1:
        node = node.inputs[0]
        if node.layer is not None and node.kind not in _PASSES_ON:
            return node.layer
        if node.kind not in _PASSES_ON:
            break
    match node.kind:
        case Kind.INPUT:
            return node
        case Kind.ADD | Kind.CONCAT | Kind.OPERATION:
            return node.site
    return None


def _readers(norm: Node) -> set[int]:
    """Return the ids of the layers that are the next to read what a norm computes."""
    found: set[int] = set()
    pending = list(norm.consumers)
    while pending:
        node = pending.pop()
        if node.layer is not None and node.kind not in _PASSES_ON:
            found.add(id(node.layer))
        elif node.kind in _PASSES_ON or node.kind is Kind.JOIN:
            pending += node.consumers
    return found


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
