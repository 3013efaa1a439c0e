"""Finds BatchNorms that are spelled out: an affine map by the buffers of one module.

`torchvision.ops.FrozenBatchNorm2d` and its look-alikes multiply and add what they compute from a
weight, a bias, a mean and a variance. Chains of such operations whose constants all come from at
least three tensors of one module become one `BATCH_NORM` node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from bncheck.graph import Kind, Layer, LayerGraph, Node, Site
from bncheck.model.traced_call import Constant, TracedCall

_SWAPPED = {"add": "add", "mul": "mul", "sub": "rsub"}
"""What an operation on a constant and a tensor is as one on the tensor and the constant."""
_FUSED = {"addcmul": "mul", "addcdiv": "div"}
"""What adds a product or a quotient, and the operation that is in it."""


@dataclass(frozen=True)
class Affine:
    """One operation of the chain on a tensor `x` and constants.

    `add`, `sub`, `rsub`, `mul` and `div` take one. `mul_add` and `div_add` take a second one, which
    they add; `add_mul` and `add_div` add the product or quotient of two to `x`.
    """

    name: str
    constants: tuple[Constant, ...]


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
        if known and alone and _owner((*known, one)) is not None and _may_join(node, before, calls):
            chains[node] = (*known, one)
            del chains[before]
        elif not calls[node].call.in_place:
            chains[node] = (one,)
    for last, chain in chains.items():
        owner = _owner(chain)
        constants = [constant for one in chain for constant in one.constants]
        reads = frozenset[str]().union(*(constant.reads for constant in constants))
        if owner is None or len(reads) < 3 or len(constants) < 2:
            continue
        _merge(graph, calls, last, chain, reads)
        if owner in modules:
            kind = type(modules[owner])
            site = Site(graph.name, owner)
            last.layer = Layer(
                Kind.BATCH_NORM, f"{kind.__module__}.{kind.__name__}", owner, site, last.attributes
            )
            graph.layers.append(last.layer)


def _may_join(node: Node, before: Node, calls: dict[Node, TracedCall]) -> bool:
    """Tell whether an operation that may write over what it reads leaves nothing else with that."""
    return not calls[node].call.in_place or len(calls[before].source.users) == 1


def affine_map(
    chain: Sequence[tuple[str, Sequence[torch.Tensor]]], shape: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return scale and shift per index of axis 1, float64; None where it is no such map.

    `chain` holds operations and their constants, `shape` is that of the input.
    """
    channels = shape[1]
    scale = torch.ones(channels, dtype=torch.float64)
    shift = torch.zeros(channels, dtype=torch.float64)
    for name, tensors in chain:
        values = [_by_channel(tensor, shape) for tensor in tensors]
        match name, *values:
            case "add", torch.Tensor() as value:
                shift = shift + value
            case "sub", torch.Tensor() as value:
                shift = shift - value
            case "rsub", torch.Tensor() as value:
                scale, shift = -scale, value - shift
            case "mul", torch.Tensor() as value:
                scale, shift = scale * value, shift * value
            case "div", torch.Tensor() as value:
                scale, shift = scale / value, shift / value
            case "mul_add", torch.Tensor() as value, torch.Tensor() as added:
                scale, shift = scale * value, shift * value + added
            case "div_add", torch.Tensor() as value, torch.Tensor() as added:
                scale, shift = scale / value, shift / value + added
            case "add_mul", torch.Tensor() as value, torch.Tensor() as other:
                shift = shift + value * other
            case "add_div", torch.Tensor() as value, torch.Tensor() as other:
                shift = shift + value / other
            case _:
                return None
    return scale, shift


def _by_channel(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Return a constant for each index of axis 1; None where it differs along another one."""
    if tensor.dim() > len(shape):
        return None
    full = tensor.detach().cpu().double()
    full = full.reshape((1,) * (len(shape) - full.dim()) + tuple(full.shape))
    if any(size != 1 for axis, size in enumerate(full.shape) if axis != 1):
        return None
    return full.reshape(-1).expand(shape[1])


def _affine(node: Node, call: TracedCall) -> Affine | None:
    if len(node.inputs) != 1 or not node.shape or len(node.shape) < 2:
        return None
    if node.shape != node.inputs[0].shape:
        return None
    arguments, name = call.arguments, call.call.name
    if name in _FUSED:
        return _fused(_FUSED[name], arguments)
    first, other = arguments.get("input"), arguments.get("other")
    if arguments.get("alpha", 1) != 1 or arguments.get("rounding_mode"):
        return None
    if isinstance(first, Constant) and name in _SWAPPED:
        name, first, other = _SWAPPED[name], other, first
    if name not in {"add", "sub", "rsub", "mul", "div"}:
        return None
    if not isinstance(first, Node) or not isinstance(other, Constant):
        return None
    return Affine(name, (other,))


def _fused(within: str, arguments: dict[str, Any]) -> Affine | None:
    """Return what `addcmul` or `addcdiv` does to a tensor that is any of its operands."""
    added, one, other = (arguments.get(name) for name in ("input", "tensor1", "tensor2"))
    if arguments.get("value", 1) != 1:
        return None
    if within == "mul" and isinstance(one, Constant):
        one, other = other, one
    match added, one, other:
        case Constant(), Node(), Constant():
            return Affine(f"{within}_add", (other, added))
        case Node(), Constant(), Constant():
            return Affine(f"add_{within}", (one, other))
    return None


def _owner(chain: tuple[Affine, ...]) -> str | None:
    constants = (constant for one in chain for constant in one.constants)
    owners = {name.rpartition(".")[0] for constant in constants for name in constant.reads}
    return owners.pop() if len(owners) == 1 else None


def _merge(
    graph: LayerGraph,
    calls: dict[Node, TracedCall],
    last: Node,
    chain: tuple[Affine, ...],
    reads: frozenset[str],
) -> None:
    first, entry = last, calls[last].entry
    inside: list[fx.Node] = []
    for _ in chain[1:]:
        inner = first.inputs[0]
        entry = calls[inner].entry
        inside.append(calls[inner].source)
        graph.nodes.remove(inner)
        del calls[inner]
        first = inner
    source = first.inputs[0]
    source.consumers[source.consumers.index(first)] = last
    last.inputs = [source]
    last.kind = Kind.BATCH_NORM
    last.attributes = {**last.attributes, "operation": "affine map"}
    merged = calls[last]
    merged.affine = tuple((one.name, one.constants) for one in chain)
    merged.inside = tuple(inside)
    merged.reads = reads
    merged.entry = entry
