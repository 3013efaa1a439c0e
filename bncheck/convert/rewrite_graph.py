"""Rewrites a copy of the traced graph, where the model's own code would have to change."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from bncheck.convert.plan import Map, Plan
from bncheck.convert.replacements import added_tensors, changed_tensors, kept_map, parameter_like
from bncheck.graph import Node
from bncheck.model.arguments import argument_names
from bncheck.model.operations import TUPLES, describe
from bncheck.model.traced_call import TracedCall


def rewrite_graph(plan: Plan) -> fx.GraphModule:
    """Return a copy of the traced graph with the plan carried out."""
    traced = plan.traced
    memo: dict[int, Any] = {}
    for name, tensor in changed_tensors(plan).items():
        memo[id(traced.tensors[name])] = tensor
        memo[id(_attribute(traced.fx, name))] = tensor
    result = copy.deepcopy(traced.fx, memo)
    copies = dict(zip(traced.fx.graph.nodes, result.graph.nodes, strict=True))
    for nodes, role, parameter in added_tensors(plan):
        for node in nodes:
            _make_linear(traced.calls[node], copies)
        _add_parameter(result, [copies[traced.calls[n].source] for n in nodes], role, parameter)
    for node in [*plan.own_copy, *plan.baked]:
        _give_own_copy(plan, result, copies[traced.calls[node].source], node)
    for node in last_first(plan):
        call = traced.calls[node]
        assert call.entry is not None
        source, entry = copies[call.source], copies[call.entry]
        if node in plan.removed:
            bypass(source, entry)
        else:
            _keep_affine(
                result, source, entry, kept_map(plan, node), bool((plan.rest[node][0] == 1).all())
            )
    erase_unused(traced.fx.graph, copies, merged_calls(plan))
    result.delete_all_unused_submodules()
    _drop_unused(result)
    _keep_out_of_state(result, traced.model)
    result.recompile()
    return result.train(traced.model.training)


def merged_calls(plan: Plan) -> set[fx.Node]:
    """Return the calls that were part of a BatchNorm that goes or changes, but its last."""
    return {call for node in last_first(plan) for call in plan.traced.calls[node].inside}


def erase_unused(original: fx.Graph, copies: dict[fx.Node, fx.Node], merged: set[fx.Node]) -> None:
    """Erase what nothing reads any more but something read before, and reads of parameters.

    What nothing read from the start stays: it may be there for what it writes over. Of the calls
    that were `merged` into a BatchNorm, what they write over is their own.
    """
    for node in reversed(list(original.nodes)):
        twin = copies[node]
        read_before = bool(node.users) and node.op not in {"placeholder", "output"}
        if twin._erased or twin.users:
            continue
        writes = node.op in {"call_function", "call_method"} and describe(node, {}).in_place
        writes = writes and node not in merged
        if node.op == "get_attr" or (read_before and not writes):
            twin.graph.erase_node(twin)


def last_first(plan: Plan) -> list[Node]:
    """Return the BatchNorms that go or change, each before the one whose output it reads.

    What a BatchNorm reads is then still in the graph when its own readers are given that instead.
    """
    return [n for n in reversed(plan.traced.graph.nodes) if n in plan.removed or n in plan.rest]


def _keep_affine(
    root: fx.GraphModule, call: fx.Node, source: fx.Node, affine: Map, shift_only: bool
) -> None:
    """Put a multiply-add, or an addition, in the place of a BatchNorm call."""
    reads = []
    for what, value in zip(("scale", "shift"), affine, strict=True):
        name = _free_name(root, f"{call.name}_{what}")
        root.register_buffer(name, value)
        with call.graph.inserting_before(call):
            reads.append(call.graph.get_attr(name))
    scale, shift = reads
    with call.graph.inserting_before(call):
        if shift_only:
            kept = call.graph.call_function(torch.add, (source, shift))
        else:
            kept = call.graph.call_function(torch.addcmul, (shift, source, scale))
    bypass(call, kept)


def _attribute(module: nn.Module, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def bypass(call: fx.Node, source: fx.Node) -> None:
    """Let the readers of a BatchNorm call read its input."""
    if call.op != "call_module" and describe(call, {}).name in TUPLES:
        for member in list(call.users):
            member.replace_all_uses_with(source)
            call.graph.erase_node(member)
    else:
        call.replace_all_uses_with(source)
    call.graph.erase_node(call)


def _add_parameter(
    root: fx.GraphModule, calls: Sequence[fx.Node], role: str, parameter: nn.Parameter | Any
) -> None:
    for call in calls:
        if call.op == "call_module":
            setattr(root.get_submodule(str(call.target)), role, parameter)
    functional = [call for call in calls if call.op != "call_module"]
    if functional:
        _set_argument(root, functional, role, parameter, f"{functional[0].name}_{role}")


def _make_linear(traced: TracedCall, copies: dict[fx.Node, fx.Node]) -> None:
    """Make a product a call that can take a bias."""
    if traced.product is None:
        return
    call, source, weight = product_arguments(traced, copies)
    if traced.product.inputs_first:
        with call.graph.inserting_before(call):
            weight = call.graph.call_method("t", (weight,))
    call.op, call.target = "call_function", nn.functional.linear
    call.args, call.kwargs = (source, weight), {}


def product_arguments(
    traced: TracedCall, copies: dict[fx.Node, fx.Node]
) -> tuple[fx.Node, fx.Node, fx.Node]:
    """Return the copies of the call of a product, of its source and of its weight."""
    call = copies[traced.source]
    assert traced.entry is not None
    source = copies[traced.entry]
    (weight,) = (one for one in call.all_input_nodes if one is not source)
    return call, source, weight


def _give_own_copy(plan: Plan, root: fx.GraphModule, call: fx.Node, node: Node) -> None:
    weight, bias = plan.folded[node]
    name = node.parameters.get("weight")
    old = plan.traced.tensors[name] if name is not None else nn.Parameter(weight)
    new_weight = parameter_like(old, weight)
    new_bias = None if bias is None else parameter_like(old, bias)
    if call.op == "call_module":
        layer = copy.deepcopy(root.get_submodule(str(call.target)))
        for role, value in (("weight", new_weight), ("bias", new_bias)):
            layer.register_parameter(
                role, None if value is None else nn.Parameter(value, old.requires_grad)
            )
        target = _free_name(root, f"{call.name}_folded")
        setattr(root, target, layer)
        call.target = target
        return
    _set_argument(root, [call], "weight", new_weight, f"{call.name}_weight")
    if new_bias is not None:
        _set_argument(root, [call], "bias", new_bias, f"{call.name}_bias")


def _set_argument(
    root: fx.GraphModule, calls: Sequence[fx.Node], role: str, value: Any, name: str
) -> None:
    """Give functional convolutions, linear layers or BatchNorms another weight or bias."""
    name = _free_name(root, name)
    setattr(root, name, value)
    for call in calls:
        position = argument_names(call, describe(call, {})).index(role)
        with call.graph.inserting_before(call):
            read = call.graph.get_attr(name)
        if role in call.kwargs or position > len(call.args):
            call.update_kwarg(role, read)
        elif position == len(call.args):
            call.args = (*call.args, read)
        else:
            call.update_arg(position, read)


def _free_name(root: nn.Module, name: str) -> str:
    while hasattr(root, name):
        name += "_"
    return name


def _keep_out_of_state(root: fx.GraphModule, model: nn.Module) -> None:
    """Leave buffers out of the state dict that the model leaves out of its own."""
    for path, module in model.named_modules(remove_duplicate=False):
        for name in module._non_persistent_buffers_set:
            owner = _attribute(root, path) if path else root
            if isinstance(owner, nn.Module) and name in owner._buffers:
                owner._non_persistent_buffers_set.add(name)


def _drop_unused(root: fx.GraphModule) -> None:
    """Delete the parameters and buffers that no node reads any more."""
    read = {str(n.target) for n in root.graph.nodes if n.op == "get_attr"}
    called = [str(n.target) for n in root.graph.nodes if n.op == "call_module"]
    tensors = [*root.named_parameters(remove_duplicate=False),
               *root.named_buffers(remove_duplicate=False)]  # fmt: skip
    for name, _ in tensors:
        if name in read or any(name.startswith(f"{path}.") for path in called):
            continue
        path, _, role = name.rpartition(".")
        delattr(root.get_submodule(path), role)
