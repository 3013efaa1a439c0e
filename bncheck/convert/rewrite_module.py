"""Rewrites a copy of the model itself: its class, names and code stay as they are.

Layers get new parameters, BatchNorms become `nn.Identity`, and a module that normalises and does
something else besides becomes what remains of it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from bncheck.convert.copies import copy_of
from bncheck.convert.plan import Plan
from bncheck.convert.remains import what_remains
from bncheck.convert.replacements import (
    SurgeryFails,
    added_tensors,
    changed_tensors,
    parameter_like,
)
from bncheck.graph import Kind, Node


def rewrite_module(plan: Plan) -> nn.Module:
    """Return a copy of the model with the plan carried out, of the same class.

    Raises SurgeryFails where replacing modules and parameters is not enough.
    """
    model, tensors = plan.traced.model, plan.traced.tensors
    _require_own_names(plan)
    memo: dict[int, Any] = {
        id(tensors[name]): tensor for name, tensor in changed_tensors(plan).items()
    }
    memo.update({id(model.get_submodule(p)): m for p, m in _replacements(plan).items()})
    result = copy_of(model, memo)
    for nodes, role, parameter in added_tensors(plan):
        if plan.traced.calls[nodes[0]].product is not None:
            raise SurgeryFails(f"{nodes[0].name} is a product, which has no place for a {role}")
        for owner in dict.fromkeys(map(_owner, nodes)):
            _set(result, f"{owner}.{role}", parameter, new=True)
    for node in plan.own_copy:
        weight, bias = plan.folded[node]
        name = node.parameters["weight"]
        _set(result, name, parameter_like(tensors[name], weight))
        if bias is not None:
            parameter = parameter_like(tensors[name], bias)
            _set(result, f"{_owner(node)}.bias", parameter, new="bias" not in node.parameters)
    return result


def _replacements(plan: Plan) -> dict[str, nn.Module]:
    """Return, by path, what takes the place of each BatchNorm that goes."""
    found: dict[str, nn.Module] = {}
    stays = {n.layer.name for n in plan.traced.graph.of_kind(Kind.BATCH_NORM)
             if n.layer is not None and n not in plan.removed}  # fmt: skip
    for node in plan.removed:
        batch_norm_call = plan.traced.calls[node]
        batch_norm = next(b.name for b in plan.batch_norms if node in b.nodes)
        try:
            if node.layer is None or not _called_as_module(node, node.layer.name):
                raise SurgeryFails("is a functional call, so the model's code would have to change")
            path = node.layer.name
            if path in stays:
                raise SurgeryFails("is used elsewhere too")
            if path == "":
                raise SurgeryFails("is the whole model")
            module = plan.traced.model.get_submodule(path)
            if batch_norm_call.affine:
                _require_nothing_else(plan, path)
                found[path] = nn.Identity().train(module.training)
            else:
                found[path] = what_remains(module)
        except SurgeryFails as problem:
            raise SurgeryFails(str(problem), batch_norm) from None
    return found


def _require_nothing_else(plan: Plan, path: str) -> None:
    for node in plan.traced.graph.nodes:
        within = str(node.attributes.get("within", ""))
        if (within == path or within.startswith(f"{path}.")) and node not in plan.removed:
            raise SurgeryFails("does more than normalise")


def _called_as_module(node: Node, path: str) -> bool:
    return node.attributes.get("within") == path


def _require_own_names(plan: Plan) -> None:
    if plan.rest:
        raise SurgeryFails("what stays of a BatchNorm has no layer of its own")
    if plan.baked:
        raise SurgeryFails(f"the weight of {next(iter(plan.baked)).name} is computed by code")
    users: dict[str, int] = {}
    for node in plan.traced.graph.nodes:
        for name in set(node.parameters.values()):
            users[name] = users.get(name, 0) + 1
    for node in plan.own_copy:
        if users[node.parameters["weight"]] > 1:
            raise SurgeryFails(f"{_owner(node)} is called more than once")


def _owner(node: Node) -> str:
    name = node.parameters.get("running_mean") or node.parameters["weight"]
    return name.rpartition(".")[0]


def _set(model: nn.Module, name: str, value: Any, new: bool = False) -> None:
    path, _, role = name.rpartition(".")
    owner = model.get_submodule(path)
    if new and owner._parameters.get(role, owner) is not None:
        raise SurgeryFails(f"{path} has no place for a {role}")
    if role in owner._buffers:
        owner._buffers[role] = value
    else:
        owner._parameters[role] = value
