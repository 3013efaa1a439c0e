"""Finds BatchNorms that are spelled out: an affine map by the buffers of one module.

`torchvision.ops.FrozenBatchNorm2d` and its look-alikes multiply and add what they compute from a
weight, a bias, a mean and a variance. Chains of such operations whose constants all come from at
least three tensors of one module become one `BATCH_NORM` node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from bncheck.graph import Kind, Layer, LayerGraph, Node, Site
from bncheck.model.traced_call import Constant, TracedCall

_OPERATIONS = frozenset({"add", "sub", "mul", "div"})


@dataclass(frozen=True)
class Affine:
    """One operation of the chain: `x <name> constant`."""

    name: str
    constant: Constant


def merge_affine_chains(graph: LayerGraph, calls: dict[Node, TracedCall], model: nn.Module) -> None:
    """Turn each chain that is a BatchNorm spelled out into one node, in place."""
    modules = dict(model.named_modules())
    chains: dict[Node, tuple[Affine, ...]] = {}
    for node in graph.nodes:
        one = _affine(node, calls[node])
        if one is None:
            continue
        before = node.inputs[0]
        known = chains.get(before, ())
        alone = before.consumers == [node] and not calls[before].observed
        if known and alone and _owner((*known, one)) is not None:
            chains[node] = (*known, one)
            del chains[before]
        else:
            chains[node] = (one,)
    for last, chain in chains.items():
        owner = _owner(chain)
        reads = frozenset[str]().union(*(one.constant.reads for one in chain))
        if owner is None or len(reads) < 3 or len(chain) < 2:
            continue
        _merge(graph, calls, last, chain, reads)
        if owner in modules:
            kind = type(modules[owner])
            site = Site(graph.name, owner)
            last.layer = Layer(
                Kind.BATCH_NORM, f"{kind.__module__}.{kind.__name__}", owner, site, last.attributes
            )
            graph.layers.append(last.layer)


def affine_map(
    chain: Sequence[tuple[str, torch.Tensor]], shape: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return scale and shift per index of axis 1, float64; None where it is no such map.

    `chain` holds operations and their constants, `shape` is that of the input.
    """
    channels = shape[1]
    scale = torch.ones(channels, dtype=torch.float64)
    shift = torch.zeros(channels, dtype=torch.float64)
    for name, tensor in chain:
        if tensor.dim() > len(shape):
            return None
        full = tensor.detach().cpu().double()
        full = full.reshape((1,) * (len(shape) - full.dim()) + tuple(full.shape))
        if any(size != 1 for axis, size in enumerate(full.shape) if axis != 1):
            return None
        value = full.reshape(-1).expand(channels)
        match name:
            case "add":
                shift = shift + value
            case "sub":
                shift = shift - value
            case "mul":
                scale, shift = scale * value, shift * value
            case "div":
                scale, shift = scale / value, shift / value
    return scale, shift


def _affine(node: Node, call: TracedCall) -> Affine | None:
    if call.call.name not in _OPERATIONS or call.call.in_place or len(node.inputs) != 1:
        return None
    first, other = call.arguments.get("input"), call.arguments.get("other")
    if call.arguments.get("alpha", 1) != 1 or call.arguments.get("rounding_mode"):
        return None
    if isinstance(first, Constant) and call.call.name in {"add", "mul"}:
        first, other = other, first
    if not isinstance(first, Node) or not isinstance(other, Constant):
        return None
    if node.shape != node.inputs[0].shape or not node.shape or len(node.shape) < 2:
        return None
    return Affine(call.call.name, other)


def _owner(chain: tuple[Affine, ...]) -> str | None:
    owners = {name.rpartition(".")[0] for one in chain for name in one.constant.reads}
    return owners.pop() if len(owners) == 1 else None


def _merge(
    graph: LayerGraph,
    calls: dict[Node, TracedCall],
    last: Node,
    chain: tuple[Affine, ...],
    reads: frozenset[str],
) -> None:
    first, entry = last, calls[last].entry
    for _ in chain[1:]:
        inner = first.inputs[0]
        entry = calls[inner].entry
        graph.nodes.remove(inner)
        del calls[inner]
        first = inner
    source = first.inputs[0]
    source.consumers[source.consumers.index(first)] = last
    last.inputs = [source]
    last.kind = Kind.BATCH_NORM
    last.attributes = {**last.attributes, "operation": "affine map"}
    merged = calls[last]
    merged.affine = tuple((one.name, one.constant) for one in chain)
    merged.reads = reads
    merged.entry = entry
