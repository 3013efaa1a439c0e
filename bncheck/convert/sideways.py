"""Merges a BatchNorm on an identity branch into a convolution beside it.

`conv(x) + batch_norm(x)` is `conv'(x) + x` where `conv'` has `scale - 1` added to its centre tap
(RepVGG, Ding et al. 2021). The branch stays as a plain identity, so that no code has to change.
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
    calls = plan.traced.calls
    origin = _origin(plan, node.inputs[0])
    problems: list[str] = []
    branch = _after(plan, node)
    while branch is not None and branch.kind is Kind.ADD:
        if calls[branch].arguments.get("alpha", 1) != 1 or calls[branch].call.name != "add":
            break
        for layer in _summands(plan, branch, node):
            if _origin(plan, layer.inputs[0]) is not origin:
                continue
            try:
                centre = _centre(plan, layer)
                scale, shift = batch_norm.map
                change = Absorption("identity", scale - 1, shift, centre)
                plan.take({layer: change}, {}, [batch_norm], "sideways", [layer])
            except Blocked as problem:
                problems.append(str(problem))
            else:
                return
        branch = _after(plan, branch)
    raise Blocked(problems[0] if problems else "is not added to a layer of the same input")


def _origin(plan: Plan, node: Node) -> Node:
    while node.kind is Kind.IDENTITY or node in plan.removed:
        node = node.inputs[0]
    return node


def _after(plan: Plan, node: Node) -> Node | None:
    """Return the one reader of a tensor, through identities; None where there are more."""
    while len(node.consumers) == 1 and not plan.traced.calls[node].observed:
        node = node.consumers[0]
        if node.kind is not Kind.IDENTITY and node not in plan.removed:
            return node
    return None


def _summands(plan: Plan, total: Node, without: Node) -> Iterator[Node]:
    """Yield the convolutions and linear layers that only this sum reads."""
    for source in total.inputs:
        while (
            (source.kind is Kind.IDENTITY or source in plan.removed)
            and len(source.consumers) == 1
            and not plan.traced.calls[source].observed
        ):
            source = source.inputs[0]
        if source is without or len(source.consumers) != 1 or plan.traced.calls[source].observed:
            continue
        call = plan.traced.calls[source]
        if source.kind is Kind.ADD:
            if call.arguments.get("alpha", 1) == 1 and call.call.name == "add":
                yield from _summands(plan, source, without)
        elif source.kind in {Kind.CONVOLUTION, Kind.LINEAR} and len(source.inputs) == 1:
            yield source


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
