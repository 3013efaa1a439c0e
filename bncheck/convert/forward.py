"""Pushes a BatchNorm into the layers that consume its output.

Downstream tensors then hold `T'` where `T = scale * T' + shift` was. Layers undo that on their
input; transparent operations pass it on; anything else blocks.
"""

from __future__ import annotations

import torch

from bncheck.convert.algebra import compose
from bncheck.convert.labels import IDENTITY, OBSERVED, Blocked, channels_of, per_channel
from bncheck.convert.plan import Absorption, BatchNorm, Map, Plan
from bncheck.convert.producers import describe_node, display_name
from bncheck.convert.transparent import is_transparent, push
from bncheck.graph import PRODUCERS, Node


def push_forward(plan: Plan, batch_norm: BatchNorm) -> None:
    """Plan the removal of a BatchNorm into its consumers; Blocked if one cannot take it."""
    labels = plan.labels(batch_norm)
    changes, maps, passed = forward_changes(plan, batch_norm, labels)
    plan.take(changes, maps, [batch_norm], "forward", passed)


def forward_changes(
    plan: Plan, batch_norm: BatchNorm, channels: torch.Tensor
) -> tuple[dict[Node, Absorption], dict[str, Map], frozenset[Node]]:
    """Return what consumers take up when these maps are left out after a BatchNorm.

    `channels` holds a label for each of its channels. The second result is the new maps of other
    BatchNorms by name, the third the nodes whose results change. Raises Blocked where a consumer
    cannot take one.
    """
    owed: dict[Node, torch.Tensor] = {}
    for node in batch_norm.nodes:
        if node.shape is None or len(node.shape) < 2:
            raise Blocked("has an output whose shape is not known")
        owed[node] = per_channel(channels, node.shape, 1)
    changes: dict[Node, Absorption] = {}
    into: dict[str, list[Map]] = {}
    for node in plan.traced.graph.nodes:
        if not any(source in owed for source in node.inputs):
            continue
        for source in node.inputs:
            if source in owed and plan.traced.calls[source].observed:
                raise Blocked(f"reaches {describe_node(source)}, whose output {OBSERVED}")
        below = plan.batch_norm_of(node)
        if node in plan.removed:
            owed[node] = owed[node.inputs[0]]
        elif below is not None:
            found = _into_batch_norm(plan, below, owed[node.inputs[0]], batch_norm)
            into.setdefault(below.name, []).append(found)
        elif node.kind in PRODUCERS:
            changes[node] = _into_layer(plan, node, owed)
        elif is_transparent(node, plan.traced.calls[node]):
            inputs = [_owed_by(source, owed) for source in node.inputs]
            labels = push(node, plan.traced.calls, inputs, plan.table)
            if bool((labels > IDENTITY).any()):
                owed[node] = labels
        else:
            raise Blocked(f"reaches {describe_node(node)}, which cannot take up a scale and shift")
    maps = {below.name: _in_every_use(below, into[below.name]) for below in plan.batch_norms
            if below.name in into}  # fmt: skip
    if not changes and not maps:
        raise Blocked("has an output that no layer reads")
    return _one_per_layer(plan, changes), maps, frozenset(owed)


def _owed_by(source: Node, owed: dict[Node, torch.Tensor]) -> torch.Tensor:
    """Return the labels of a tensor, which is what it was where nothing is owed."""
    if source in owed:
        return owed[source]
    if source.shape is None:
        raise Blocked(f"meets {describe_node(source)}, whose shape is not known")
    return torch.tensor(IDENTITY).expand(source.shape)


def _into_batch_norm(
    plan: Plan, below: BatchNorm, labels: torch.Tensor, batch_norm: BatchNorm
) -> Map:
    if below is batch_norm or below.problem or below.fixed:
        raise Blocked(f"reaches {below.name}, which cannot take it up")
    plan.producers.require_own_parameters(below.nodes)
    channels = channels_of(labels, 1)
    assert below.map is not None
    return compose(below.map, (plan.table.scales(channels), plan.table.shifts(channels)))


def _in_every_use(below: BatchNorm, maps: list[Map]) -> Map:
    """Return the one new map that a BatchNorm is given by each place that applies it."""
    first, *others = maps
    if len(maps) < len(below.nodes) or not all(
        torch.equal(first[0], other[0]) and torch.equal(first[1], other[1]) for other in others
    ):
        raise Blocked(f"reaches {below.name}, which is also applied to something else")
    return first


def _into_layer(plan: Plan, node: Node, owed: dict[Node, torch.Tensor]) -> Absorption:
    producers = plan.producers
    producers.require_plain(node)
    if len(node.inputs) != 1:
        raise Blocked(f"reaches {display_name(node)}, whose weight is not a parameter")
    channels = channels_of(owed[node.inputs[0]], *producers.input_axes(node))
    scale, shift = plan.table.scales(channels), plan.table.shifts(channels)
    if bool((shift != 0).any()):
        producers.require_no_border(node)
    return Absorption("input", scale, shift)


def _one_per_layer(plan: Plan, changes: dict[Node, Absorption]) -> dict[Node, Absorption]:
    """Keep the first use of each layer; Blocked unless every use of it wants the same."""
    kept: dict[Node, Absorption] = {}
    covered: set[Node] = set()
    for node, change in changes.items():
        if node in covered:
            continue
        others = [*plan.producers.other_users(node)]
        for other in others:
            plan.producers.require_same_layer(node, other)
            if other not in changes or not _same(change, changes[other]):
                raise Blocked(
                    f"reaches {display_name(node)}, which shares its parameters with "
                    f"{describe_node(other)}"
                )
        if others and plan.own_copy.intersection([node, *others]):
            raise Blocked(f"reaches {display_name(node)}, of which each use has its own copy")
        kept[node] = change
        covered.update(others)
    return kept


def _same(one: Absorption, other: Absorption) -> bool:
    return torch.equal(one.scale, other.scale) and torch.equal(one.shift, other.shift)
