"""The new tensors that a plan gives to a model, by name, whatever is rewritten with them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from bncheck.convert.plan import BatchNorm, Map, Plan
from bncheck.graph import Node


class SurgeryFails(Exception):  # noqa: N818
    """The model's code would have to change for a BatchNorm to go; the text says why."""

    def __init__(self, reason: str, batch_norm: str | None = None) -> None:
        super().__init__(reason)
        self.batch_norm = batch_norm


def parameter_like(old: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return `value` as a parameter where `old` is one, requiring gradients as it does."""
    if isinstance(old, nn.Parameter):
        return nn.Parameter(value, requires_grad=old.requires_grad)
    return value


def changed_tensors(plan: Plan) -> dict[str, torch.Tensor]:
    """Return the new values of parameters that the model has already, by name.

    Those of layers that get a copy of their own are not among them.
    """
    new: dict[str, torch.Tensor] = {}
    tensors = plan.traced.tensors
    for node, (weight, bias) in plan.folded.items():
        if node in plan.own_copy or node in plan.baked:
            continue
        name = node.parameters["weight"]
        new[name] = parameter_like(tensors[name], weight)
        if "bias" in node.parameters and bias is not None:
            name = node.parameters["bias"]
            new[name] = parameter_like(tensors[name], bias)
    for batch_norm in changed_batch_norms(plan):
        node = batch_norm.nodes[0]
        for role, value in affine_of(plan, batch_norm).items():
            if role in node.parameters:
                name = node.parameters[role]
                new[name] = parameter_like(tensors[name], value)
    return new


def added_tensors(plan: Plan) -> Iterator[tuple[tuple[Node, ...], str, torch.Tensor]]:
    """Yield the parameters that layers get and did not have: every use, role, parameter."""
    tensors = plan.traced.tensors
    for node, (_, bias) in plan.folded.items():
        if node in plan.own_copy or node in plan.baked:
            continue
        if bias is not None and "bias" not in node.parameters:
            weight = tensors[node.parameters["weight"]]
            parameter = nn.Parameter(bias, requires_grad=weight.requires_grad)
            yield (node, *plan.producers.other_users(node)), "bias", parameter
    for batch_norm in changed_batch_norms(plan):
        node = batch_norm.nodes[0]
        for role, value in affine_of(plan, batch_norm).items():
            if role not in node.parameters:
                parameter = nn.Parameter(value, requires_grad=False)
                yield tuple(batch_norm.nodes), role, parameter


def changed_batch_norms(plan: Plan) -> Iterator[BatchNorm]:
    """Yield the BatchNorms that stay and took up another one."""
    for batch_norm in plan.batch_norms:
        if batch_norm.name in plan.changed:
            yield batch_norm


def affine_of(plan: Plan, batch_norm: BatchNorm) -> dict[str, torch.Tensor]:
    """Return the weight and bias with which a BatchNorm computes the map it now stands for."""
    if batch_norm.name not in plan.affine:
        dtype = plan.affine_dtype(batch_norm.nodes[0])
        exact = exact_affine_of(plan, batch_norm)
        plan.affine[batch_norm.name] = {role: value.to(dtype) for role, value in exact.items()}
    return plan.affine[batch_norm.name]


def exact_affine_of(plan: Plan, batch_norm: BatchNorm) -> dict[str, torch.Tensor]:
    """Return the same in float64."""
    node = batch_norm.nodes[0]
    assert batch_norm.map is not None
    weight, bias = plan.exact_affine(node, batch_norm.map)
    return {"weight": weight, "bias": bias}


def kept_map(plan: Plan, node: Node) -> Map:
    """Return scale and shift of what stays of a BatchNorm, as its buffers hold them."""
    if node not in plan.kept:
        tensors, reads = plan.traced.tensors, plan.traced.calls[node].reads
        like = next(tensors[name] for name in sorted(reads))
        exact = exact_kept_map(plan, node)
        # Each use has tensors of its own, which tell it from others where nothing is rounded.
        scale, shift = (value.to(like.device, like.dtype, copy=True) for value in exact)
        plan.kept[node] = (scale, shift)
    return plan.kept[node]


def exact_kept_map(plan: Plan, node: Node) -> Map:
    """Return the same in float64."""
    assert node.shape is not None
    shape = (1, -1, *[1] * (len(node.shape) - 2))
    scale, shift = (value.view(shape) for value in plan.rest[node])
    return scale, shift
