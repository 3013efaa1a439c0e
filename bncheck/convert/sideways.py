"""Merges a BatchNorm on an identity branch into a convolution or linear layer beside it.

`conv(x) + batch_norm(x)` is `conv'(x) + x` where `conv'` has `scale - 1` added to its centre tap
(RepVGG, Ding et al. 2021), and `conv(x) - batch_norm(x)` is `conv'(x) - x` where it is subtracted.
The branch stays as a plain identity, so that no code has to change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bncheck.convert.additions import factors_of_inputs
from bncheck.convert.labels import Blocked
from bncheck.convert.plan import Absorption, BatchNorm, Plan
from bncheck.convert.producers import describe_node, display_name, each
from bncheck.graph import PRODUCERS, Kind, Node

ALONE = "is not added to a layer of the same input"


def merge_sideways(plan: Plan, batch_norm: BatchNorm) -> None:
    """Plan the merge of a BatchNorm into a layer beside it; Blocked if there is none."""
    if len(batch_norm.nodes) != 1 or batch_norm.map is None:
        raise Blocked("is applied more than once")
    node = batch_norm.nodes[0]
    origin = _origin(plan, node.inputs[0])
    problems: list[str] = []
    reached, weight = node, 1.0
    while (total := _after(plan, reached)) is not None and total[0].kind is Kind.ADD:
        branch, read = total
        weight *= _weights(plan, branch)[branch.inputs.index(read)]
        for layer, own in _summands(plan, branch, node, 1.0):
            if _origin(plan, layer.inputs[0]) is not origin:
                continue
            try:
                centre = _centre(plan, layer)
                scale, shift = batch_norm.map
                ratio = weight / own
                change = Absorption("identity", ratio * (scale - 1), ratio * shift, centre)
                plan.take({layer: change}, {}, [batch_norm], "sideways", [layer])
            except Blocked as problem:
                problems.append(str(problem))
            else:
                return
        reached = branch
    raise Blocked(problems[0] if problems else ALONE)


def _weights(plan: Plan, total: Node) -> list[float]:
    """Return the factor with which a sum or difference takes each of its inputs."""
    factors = factors_of_inputs(total, plan.traced.calls[total])
    if not all(factors):
        raise Blocked("is added with a factor of zero")
    return factors


def _origin(plan: Plan, node: Node) -> Node:
    while node.kind is Kind.IDENTITY or node in plan.removed:
        node = node.inputs[0]
    return node


def _after(plan: Plan, node: Node) -> tuple[Node, Node] | None:
    """Return the one reader of a tensor, through identities, and what it reads; None for more."""
    while len(node.consumers) == 1 and not plan.traced.calls[node].observed:
        reader = node.consumers[0]
        if reader.kind is not Kind.IDENTITY and reader not in plan.removed:
            return reader, node
        node = reader
    return None


def _summands(
    plan: Plan, total: Node, without: Node, weight: float
) -> Iterator[tuple[Node, float]]:
    """Yield the layers that only this sum reads, with their factors."""
    for source, factor in zip(total.inputs, _weights(plan, total), strict=True):
        while (
            (source.kind is Kind.IDENTITY or source in plan.removed)
            and len(source.consumers) == 1
            and not plan.traced.calls[source].observed
        ):
            source = source.inputs[0]
        if source is without or len(source.consumers) != 1 or plan.traced.calls[source].observed:
            continue
        if source.kind is Kind.ADD:
            yield from _summands(plan, source, without, weight * factor)
        elif source.kind in PRODUCERS and len(source.inputs) == 1:
            yield source, weight * factor


def _centre(plan: Plan, layer: Node) -> tuple[int, ...]:
    """Return the kernel tap through which an output sees the input at its own place.

    A transposed convolution of stride 1 is a convolution with the kernel turned round, cut where
    the other is padded: there, too, it is the tap with as many before it as the padding.
    """
    producers = plan.producers
    producers.require_plain(layer)
    for other in producers.other_users(layer):
        raise Blocked(
            f"stands beside {display_name(layer)}, which shares its parameters with "
            f"{describe_node(other)}"
        )
    weight = producers.weights(layer).weight
    if layer.shape is None or layer.shape != layer.inputs[0].shape:
        raise Blocked(f"stands beside {display_name(layer)}, which changes the shape")
    if producers.output_axes(layer) != (1,) or plan.traced.calls[layer].product is not None:
        raise Blocked(f"stands beside {display_name(layer)}, whose channels lie along another axis")
    rank, call = weight.dim() - 2, plan.traced.calls[layer]
    if rank == 0:
        return ()
    stride, dilation = (each(call.setting(name), rank) for name in ("stride", "dilation"))
    padding: Any = call.setting("padding")
    if padding == "same":
        taps = [(d * (k - 1)) // 2 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    elif isinstance(padding, str):
        taps = [0] * rank
    else:
        taps = each(padding, rank)
    if any(s != 1 for s in stride):
        raise Blocked(f"stands beside {display_name(layer)}, which has a stride")
    if any(p % d or p // d >= k for p, d, k in zip(taps, dilation, weight.shape[2:], strict=True)):
        raise Blocked(f"stands beside {display_name(layer)}, which sees its input elsewhere")
    return tuple(p // d for p, d in zip(taps, dilation, strict=True))
