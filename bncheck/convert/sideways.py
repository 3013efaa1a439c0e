"""Merges a BatchNorm on an identity branch into a convolution beside it.

`conv(x) + batch_norm(x)` is `conv'(x) + x` where `conv'` has `scale - 1` added to its centre tap
(RepVGG, Ding et al. 2021). The branch stays as a plain identity, so that no code has to change.
In `conv(x) - batch_norm(x)` (FastViT's token mixer) what is added has the other sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bncheck.convert.labels import Blocked
from bncheck.convert.plan import Absorption, BatchNorm, Plan
from bncheck.convert.producers import describe_node, display_name, each
from bncheck.graph import Kind, Node


def merge_sideways(plan: Plan, batch_norm: BatchNorm) -> None:
    """Plan the merge of a BatchNorm into a layer beside it; Blocked if there is none."""
    if len(batch_norm.nodes) != 1 or batch_norm.map is None:
        raise Blocked("is applied more than once")
    node = batch_norm.nodes[0]
    origin = _origin(plan, node.inputs[0])
    problems: list[str] = []
    weight, (branch, arriving) = 1.0, _after(plan, node)
    while branch is not None and branch.kind is Kind.ADD and _is_sum(plan, branch):
        weight *= _weight(plan, branch, branch.inputs.index(arriving))
        for layer, its_weight in _summands(plan, branch, node):
            if _origin(plan, layer.inputs[0]) is not origin:
                continue
            try:
                centre = _centre(plan, layer)
                scale, shift = batch_norm.map
                ratio = weight / its_weight
                change = Absorption("identity", ratio * (scale - 1), ratio * shift, centre)
                plan.take({layer: change}, {}, [batch_norm], "sideways", [layer])
            except Blocked as problem:
                problems.append(str(problem))
            else:
                return
        branch, arriving = _after(plan, branch)
    raise Blocked(problems[0] if problems else "is not added to a layer of the same input")


def _origin(plan: Plan, node: Node) -> Node:
    while node.kind is Kind.IDENTITY or node in plan.removed:
        node = node.inputs[0]
    return node


def _after(plan: Plan, node: Node) -> tuple[Node | None, Node]:
    """Return the one reader of a tensor, through identities, and what it reads; None for more."""
    while len(node.consumers) == 1 and not plan.traced.calls[node].observed:
        reader = node.consumers[0]
        if reader.kind is not Kind.IDENTITY and reader not in plan.removed:
            return reader, node
        node = reader
    return None, node


def _is_sum(plan: Plan, node: Node) -> bool:
    alpha = plan.traced.calls[node].arguments.get("alpha", 1)
    return plan.traced.calls[node].call.name in {"add", "sub"} and alpha in (1, -1)


def _weight(plan: Plan, total: Node, position: int) -> float:
    """Return the factor, 1 or -1, with which a sum or difference takes one of its inputs."""
    call = plan.traced.calls[total]
    second = position == 1 or not isinstance(call.arguments.get("input"), Node)
    if not second:
        return 1.0
    return float(call.arguments.get("alpha", 1)) * (-1.0 if call.call.name == "sub" else 1.0)


def _summands(plan: Plan, total: Node, without: Node) -> Iterator[tuple[Node, float]]:
    """Yield the convolutions and linear layers that only this sum reads, with their factors."""
    for position, source in enumerate(total.inputs):
        while (
            (source.kind is Kind.IDENTITY or source in plan.removed)
            and len(source.consumers) == 1
            and not plan.traced.calls[source].observed
        ):
            source = source.inputs[0]
        if source is without or len(source.consumers) != 1 or plan.traced.calls[source].observed:
            continue
        weight = _weight(plan, total, position)
        if source.kind is Kind.ADD:
            if _is_sum(plan, source):
                for layer, factor in _summands(plan, source, without):
                    yield layer, weight * factor
        elif source.kind in {Kind.CONVOLUTION, Kind.LINEAR} and len(source.inputs) == 1:
            yield source, weight


def _centre(plan: Plan, layer: Node) -> tuple[int, ...]:
    """Return the kernel tap through which an output sees the input at its own place."""
    producers = plan.producers
    producers.require_plain(layer)
    for other in producers.other_users(layer):
        raise Blocked(f"{display_name(layer)} shares its parameters with {describe_node(other)}")
    weight = producers.weights(layer).weight
    if layer.shape is None or layer.shape != layer.inputs[0].shape:
        raise Blocked(f"{display_name(layer)} changes the shape")
    if layer.kind is Kind.LINEAR:
        raise Blocked(f"{display_name(layer)} is no convolution")
    rank, call = weight.dim() - 2, plan.traced.calls[layer]
    stride, dilation = (each(call.setting(name), rank) for name in ("stride", "dilation"))
    padding: Any = call.setting("padding")
    if padding == "same":
        taps = [(d * (k - 1)) // 2 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    elif isinstance(padding, str):
        taps = [0] * rank
    else:
        taps = each(padding, rank)
    if any(s != 1 for s in stride):
        raise Blocked(f"{display_name(layer)} has a stride")
    if any(p % d or p // d >= k for p, d, k in zip(taps, dilation, weight.shape[2:], strict=True)):
        raise Blocked(f"{display_name(layer)} does not see its input at the output's own place")
    return tuple(p // d for p, d in zip(taps, dilation, strict=True))
