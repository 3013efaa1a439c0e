"""Rewrites a TorchScript module: it stays one, and its parameters keep their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from bncheck.convert.plan import Plan
from bncheck.convert.replacements import (
    added_tensors,
    changed_tensors,
    kept_map,
    parameter_like,
)
from bncheck.convert.rewrite_graph import last_first, product_arguments
from bncheck.graph import Node
from bncheck.model.script_attributes import keep_attributes
from bncheck.model.script_graph import attribute_path, inlined, is_none, reloaded, simplified
from bncheck.model.script_reader import ScriptGraph, read_script
from bncheck.model.traced_call import TracedCall

_POSITIONS = {"weight": 1, "bias": 2}
"""Of a convolution, a linear layer and a BatchNorm alike."""


@dataclass(frozen=True)
class Rewritten:
    """A TorchScript module that was rewritten, and the tensors of the plan by its names."""

    module: Any
    tensors: dict[str, torch.Tensor]
    nameless: bool
    """Whether a constant has changed, which has no name."""


def rewrite_script(plan: Plan, module: Any) -> Rewritten:
    """Return a copy of the module with the plan carried out: other parameters, fewer nodes."""
    copied = inlined(module)
    named: dict[str, torch.Tensor] = {}
    script = read_script(copied)
    twins = dict(zip(plan.traced.fx.graph.nodes, script.graph.nodes, strict=True))

    def sources(nodes: Sequence[Node]) -> list[Any]:
        return [script.sources[twins[plan.traced.calls[node].source]] for node in nodes]

    changed = changed_tensors(plan)
    for name, tensor in changed.items():
        named.update(_change(copied, script, name, tensor))
    for nodes, role, tensor in added_tensors(plan):
        for node in nodes:
            _make_linear(copied, script, twins, plan.traced.calls[node])
        named.update(_give(copied, sources(nodes), role, tensor, _owner(nodes[0])))
    for node in [*plan.own_copy, *plan.baked]:
        weight, bias = plan.folded[node]
        old = plan.traced.tensors.get(node.parameters.get("weight", ""), nn.Parameter(weight))
        for role, value in (("weight", weight), ("bias", bias)):
            if value is not None:
                parameter = parameter_like(old, value)
                named.update(
                    _give_from_root(copied, sources([node]), role, parameter, _owner(node))
                )
    for node in last_first(plan):
        call = plan.traced.calls[node]
        assert call.entry is not None
        result, entry = (script.values[twins[one]] for one in (call.source, call.entry))
        if node in plan.rest:
            entry, kept = _multiply_add(copied, result.node(), entry, plan, node)
            named.update(kept)
        result.replaceAllUsesWith(entry)
    torch._C._jit_pass_dce(copied._c._get_method("forward").graph)
    rewritten = reloaded(keep_attributes(simplified(copied), module))
    return Rewritten(rewritten, named, any(name not in named for name in changed))


def _make_linear(
    module: Any, script: ScriptGraph, twins: dict[fx.Node, fx.Node], traced: TracedCall
) -> None:
    """Put a linear layer, which can take a bias, in the place of a product."""
    if traced.product is None:
        return
    twin, source, weight = product_arguments(traced, twins)
    call, graph = script.sources[twin], module._c._get_method("forward").graph
    given = script.values[weight]
    if traced.product.inputs_first:
        turned = graph.create("aten::t", [given], 1)
        turned.insertBefore(call)
        given = turned.output()
    nothing = graph.create("prim::Constant", 1)
    nothing.insertBefore(call)
    nothing.output().setType(torch._C.NoneType.get())
    layer = graph.create("aten::linear", [script.values[source], given, nothing.output()], 1)
    layer.insertBefore(call)
    call.output().replaceAllUsesWith(layer.output())
    script.sources[twin], script.values[twin] = layer, layer.output()


def _owner(node: Node) -> str:
    name = node.parameters.get("running_mean") or node.parameters.get("weight") or node.name
    return name.rpartition(".")[0] or name


def _change(
    module: Any, script: ScriptGraph, name: str, tensor: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    """Give a parameter a new value, under each name that it has, or a constant."""
    placeholder = next(node for node, (known, _) in script.stored.items() if known == name)
    for alias, node in script.names.items():
        if node is placeholder:
            *path, role = alias.split(".")
            old = script.stored[placeholder][1]
            new = tensor.detach().requires_grad_(old.requires_grad)
            _at(module, path)._c.setattr(role, new)
            yield alias, tensor
    for constant in script.constants.get(placeholder, ()):
        constant.t_("value", tensor.detach())


def _at(module: Any, path: Sequence[str]) -> Any:
    for name in path:
        module = getattr(module, name)
    return module


def _give(
    module: Any, calls: Sequence[Any], role: str, tensor: torch.Tensor, owner: str
) -> dict[str, torch.Tensor]:
    """Give a layer a parameter: in its own place, where it has one that is None, or from the root.

    A traced layer without a bias has no such place, and layers share their types, so that only
    the root, which is the one of its type, can be given more.
    """
    old = calls[0].inputsAt(_POSITIONS[role])
    if is_none(old) or any(call.inputsAt(_POSITIONS[role]) is not old for call in calls):
        return _give_from_root(module, calls, role, tensor, owner)
    *path, name = attribute_path(old)
    _at(module, path)._c.setattr(name, tensor)
    return {".".join([*path, name]): tensor}


def _give_from_root(
    module: Any, calls: Sequence[Any], role: str, tensor: torch.Tensor, owner: str
) -> dict[str, torch.Tensor]:
    name = _register(module, owner, role, tensor)
    for call in calls:
        call.replaceInput(_POSITIONS[role], _read(module, name, call))
    return {name: tensor}


def _multiply_add(
    module: Any, call: Any, source: Any, plan: Plan, node: Node
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Put a multiply-add, or an addition, before a BatchNorm; return what it computes."""
    shift_only = bool((plan.rest[node][0] == 1).all())
    affine = kept_map(plan, node)
    named = {
        _register(module, _owner(node), role, tensor): tensor
        for role, tensor in zip(("scale", "shift"), affine, strict=True)
    }
    scale, shift = (_read(module, name, call) for name in named)
    graph = module._c._get_method("forward").graph
    one = graph.insertConstant(1)
    one.node().moveBefore(call)
    if shift_only:
        kept = graph.create("aten::add", [source, shift, one], 1)
    else:
        kept = graph.create("aten::addcmul", [shift, source, scale, one], 1)
    kept.insertBefore(call)
    return kept.output(), named


class _Holder(nn.Module):
    """Holds a tensor that the module had not."""

    def __init__(self, role: str, tensor: torch.Tensor) -> None:
        super().__init__()
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(role, tensor)
        else:
            self.register_buffer(role, tensor)


def _register(module: Any, owner: str, role: str, tensor: torch.Tensor) -> str:
    """Store a tensor in the root; return its name."""
    name = f"{owner.replace('.', '_')}_folded"
    while module._c.hasattr(name):
        name += "_"
    holder: Any = _Holder(role, tensor)
    child: Any = torch.jit.trace_module(holder, {})._c  # type: ignore[no-untyped-call]
    module._c._register_attribute(name, child._type(), child)
    return f"{name}.{role}"


def _read(module: Any, name: str, call: Any) -> Any:
    """Return a value that reads what was registered in the root, before a call."""
    graph = module._c._get_method("forward").graph
    owner, _, role = name.rpartition(".")
    kinds = (module._c.getattr(owner)._type(), torch._C.TensorType.get())
    value = next(graph.inputs())
    for part, kind in zip((owner, role), kinds, strict=True):
        read = graph.create("prim::GetAttr", [value], 1)
        read.s_("name", part)
        read.output().setType(kind)
        read.insertBefore(call)
        value = read.output()
    return value
