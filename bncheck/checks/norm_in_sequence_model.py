"""BN111: BatchNorm where the models of its kind use another normalisation."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import NORMS, PRODUCERS, Kind, LayerGraph, Node

_PASSES_ON = PRODUCERS | {
    Kind.ACTIVATION,
    Kind.ADD,
    Kind.DROPOUT,
    Kind.IDENTITY,
    Kind.RESHAPE,
}
_WITHIN_A_BLOCK = _PASSES_ON - {Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION} | NORMS
"""Passed through from a norm behind the feed-forward part of a block to its attention."""
_KEEPS = frozenset({Kind.DROPOUT, Kind.IDENTITY, Kind.RESHAPE})
_SCALES = _KEEPS | {Kind.ADD, Kind.OPERATION}
_PRODUCTS = frozenset({"@", "matmul", "bmm", "baddbmm", "einsum"})
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
    before = _reached(norm)
    around = [*before, *_reached(norm, forward=True)]
    if _reads_sum(norm):
        around += _reached(norm, _WITHIN_A_BLOCK)
    if any(map(_is_attention, around)):
        return (
            "BatchNorm inside an attention block mixes the positions of all sequences of a batch",
            "use LayerNorm, as transformers do",
        )
    if _is_repeated(graph, norm) and (
        any(node.kind is Kind.RECURRENT and _is_repeated(graph, node) for node in around)
        or _is_step(graph, norm, before)
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


def _reads_sum(norm: Node) -> bool:
    node = norm
    while len(node.inputs) == 1 and node.inputs[0].kind in _KEEPS:
        node = node.inputs[0]
    return any(source.kind is Kind.ADD for source in node.inputs)


def _is_attention(node: Node) -> bool:
    """Tell whether a node is attention, or the last product of one that is written out."""
    return node.kind is Kind.ATTENTION or (
        _is_product(node)
        and any(
            _name(weights).endswith("softmax") and any(map(_is_product, _reached(weights, _SCALES)))
            for weights in _reached(node, _KEEPS)
        )
    )


def _is_product(node: Node) -> bool:
    return _name(node) in _PRODUCTS and len(node.inputs) > 1


def _name(node: Node) -> str:
    """Return the name of an operation, or of a layer's class, in small letters."""
    operation = node.get("operation")
    return (operation if isinstance(operation, str) else node.name).rpartition(".")[2].lower()


def _is_repeated(graph: LayerGraph, node: Node) -> bool:
    return node.layer is not None and len(graph.uses(node.layer)) > 1


def _is_step(graph: LayerGraph, norm: Node, before: list[Node]) -> bool:
    """Tell whether a norm is one of a cell that is written out.

    It reads what it computed at the last step, and several linear layers run at every step.
    """
    linear = {id(n.layer) for n in before if n.kind is Kind.LINEAR and _is_repeated(graph, n)}
    return len(linear) > 1 and any(node.layer is norm.layer for node in before)


def _reached(
    start: Node, passes: frozenset[Kind] = _PASSES_ON, *, forward: bool = False
) -> list[Node]:
    """Return the nodes next to a node, seen through what only passes a tensor on."""
    found: dict[int, Node] = {}
    pending = list(start.consumers if forward else start.inputs)
    while pending:
        node = pending.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        if node.kind in passes or node.get("operation") == "member":
            pending += node.consumers if forward else node.inputs
    return list(found.values())
