"""Rewrites a copy of the model itself: its class, names and code stay as they are.

Layers get new parameters, BatchNorms become `nn.Identity`, and a module that normalises and does
something else besides becomes what remains of it.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import fx, nn

from bncheck.convert.plan import Plan
from bncheck.graph import Kind, Node
from bncheck.model.operations import describe
from bncheck.model.trace_fx import LayerTracer, has_hooks


class SurgeryFails(Exception):  # noqa: N818
    """The model's code would have to change; the text says where."""


def rewrite_module(plan: Plan) -> nn.Module:
    """Return a copy of the model with the plan carried out, of the same class.

    Raises SurgeryFails where replacing modules and parameters is not enough.
    """
    replaced = _replacements(plan)
    for path, module in replaced.items():
        if path == "":
            raise SurgeryFails("the model is itself a BatchNorm")
        del module
    new = _new_parameters(plan)
    memo: dict[int, Any] = {id(plan.traced.tensors[name]): t for name, t in new.items()}
    memo.update({id(plan.traced.model.get_submodule(p)): m for p, m in replaced.items()})
    result = copy.deepcopy(plan.traced.model, memo)
    for node, (_, bias) in plan.folded.items():
        _add_bias(plan, result, node, bias)
    return result


def _replacements(plan: Plan) -> dict[str, nn.Module]:
    """Return, by path, what takes the place of each BatchNorm that goes."""
    found: dict[str, nn.Module] = {}
    stays = {n.layer.name for n in plan.traced.graph.of_kind(Kind.BATCH_NORM)
             if n.layer is not None and n not in plan.removed}  # fmt: skip
    names_of = _all_paths(plan.traced.model)
    for node in plan.removed:
        path = node.layer.name if node.layer is not None else None
        if path is None or node.site is None:
            raise SurgeryFails(f"{node.name} is a functional call")
        if path in stays:
            raise SurgeryFails(f"{path} is used elsewhere too")
        if not _called_as_module(node, path):
            raise SurgeryFails(f"{path} is read by a functional call")
        module = plan.traced.model.get_submodule(path)
        rest = what_remains(module)
        for name in names_of[id(module)]:
            found[name] = rest
    return found


def _all_paths(model: nn.Module) -> dict[int, list[str]]:
    paths: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(id(module), []).append(path)
    return paths


def _called_as_module(node: Node, path: str) -> bool:
    assert node.site is not None
    return node.site.mark == path and node.attributes.get("within") == path


def what_remains(module: nn.Module) -> nn.Module:
    """Return a module that does what a normalising module does besides normalising.

    Raises SurgeryFails where that is not the normalisation of its input followed by its own
    child modules.
    """
    if type(module).__module__.startswith("torch.nn.modules."):
        return nn.Identity()
    if has_hooks(module):
        raise SurgeryFails(f"{type(module).__name__} has hooks")
    tracer = LayerTracer()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tracer.trace(module)
    except Exception as problem:
        raise SurgeryFails(f"{type(module).__name__} cannot be traced") from problem
    children = _chain_to_batch_norm(graph, dict(module.named_modules()))
    if children is None:
        raise SurgeryFails(f"{type(module).__name__} does more than its child modules say")
    kept = [copy.deepcopy(c) for c in children if type(c) is not nn.Identity]
    match kept:
        case []:
            return nn.Identity()
        case [one]:
            return one
    return nn.Sequential(*kept).train(module.training)


def _chain_to_batch_norm(graph: fx.Graph, modules: dict[str, nn.Module]) -> list[nn.Module] | None:
    """Return the child modules between the normalisation and the output, in order."""
    output = next(n for n in graph.nodes if n.op == "output")
    node = output.args[0]
    chain: list[nn.Module] = []
    while isinstance(node, fx.Node):
        if describe(node, modules).kind is Kind.BATCH_NORM:
            first = node.args[0]
            plain = isinstance(first, fx.Node) and first.op == "placeholder"
            return chain[::-1] if plain else None
        if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
            return None
        chain.append(modules[str(node.target)])
        node = node.args[0]
    return None


def _new_parameters(plan: Plan) -> dict[str, torch.Tensor]:
    """Return the new values of parameters that are there already, by name."""
    new: dict[str, torch.Tensor] = {}

    def replace(name: str, value: torch.Tensor) -> None:
        old = plan.traced.tensors[name]
        if isinstance(old, nn.Parameter):
            new[name] = nn.Parameter(value, requires_grad=old.requires_grad)
        else:
            new[name] = value

    for node, (weight, bias) in plan.folded.items():
        replace(node.parameters["weight"], weight)
        if "bias" in node.parameters and bias is not None:
            replace(node.parameters["bias"], bias)
    for batch_norm in plan.batch_norms:
        if batch_norm.name in plan.changed and batch_norm.map is not None:
            node = batch_norm.nodes[0]
            if "weight" not in node.parameters or "bias" not in node.parameters:
                raise SurgeryFails(f"{batch_norm.name} has no weight and bias to change")
            for role, value in affine_of(plan, node, *batch_norm.map).items():
                replace(node.parameters[role], value)
    return new


def affine_of(
    plan: Plan, node: Node, scale: torch.Tensor, shift: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the weight and bias with which a BatchNorm node computes a new map."""
    tensors = plan.traced.tensors
    mean = tensors[node.parameters["running_mean"]].detach().double()
    variance = tensors[node.parameters["running_var"]].detach().double()
    weight = scale.to(mean.device) * (variance + float(node.get("eps"))).sqrt()  # type: ignore[arg-type]
    bias = shift.to(mean.device) + mean * scale.to(mean.device)
    dtype = tensors[node.parameters["running_mean"]].dtype
    if "weight" in node.parameters:
        dtype = tensors[node.parameters["weight"]].dtype
    return {"weight": weight.to(dtype), "bias": bias.to(dtype)}


def _add_bias(plan: Plan, result: nn.Module, node: Node, bias: torch.Tensor | None) -> None:
    if bias is None or "bias" in node.parameters:
        return
    name = node.parameters["weight"]
    old = plan.traced.tensors[name]
    parameter = nn.Parameter(bias, requires_grad=old.requires_grad)
    for path in _all_paths(plan.traced.model)[
        id(plan.traced.model.get_submodule(name.rpartition(".")[0]))
    ]:
        owner = result.get_submodule(path)
        if "bias" not in owner._parameters or owner._parameters["bias"] is not None:
            raise SurgeryFails(f"{path} has no place for a bias")
        owner._parameters["bias"] = parameter
        break
