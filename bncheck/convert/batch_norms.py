"""The BatchNorms of a traced model and the affine map that each of them is in eval mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bncheck.convert import algebra
from bncheck.convert.labels import Blocked
from bncheck.convert.plan import BatchNorm, Map
from bncheck.convert.producers import describe_node, display_name
from bncheck.graph import Kind, Node
from bncheck.model.affine import affine_map
from bncheck.model.trace import TracedModel
from bncheck.model.trace_fx import has_hooks
from bncheck.model.traced_call import TracedCall
from bncheck.verification.precision import in_float64


def find_batch_norms(traced: TracedModel) -> list[BatchNorm]:
    """Return the BatchNorms of a traced model, those that never run among them."""
    found: dict[object, BatchNorm] = {}
    for node in traced.graph.of_kind(Kind.BATCH_NORM):
        mean = traced.tensors.get(node.parameters.get("running_mean", ""))
        weight = traced.tensors.get(node.parameters.get("weight", ""))
        key: object = node
        if mean is not None:
            key = (id(mean), id(weight), traced.calls[node].setting("eps"))
        elif node.layer is not None:
            key = node.layer.name
        if key not in found:
            taken = {batch_norm.name for batch_norm in found.values()}
            name = display_name(node)  # two that share statistics share it as well
            found[key] = BatchNorm(f"{name} ({node.name})" if name in taken else name, [])
        found[key].nodes.append(node)
    written = frozenset[str]().union(*(call.writes for call in traced.calls.values()))
    for batch_norm in found.values():
        try:
            batch_norm.map = eval_map(traced, batch_norm.nodes[0])
        except Blocked as problem:
            batch_norm.problem = str(problem)
        if written.intersection(traced.calls[batch_norm.nodes[0]].reads):
            batch_norm.problem = "has statistics or parameters that the model writes over"
        if not all(node.inputs for node in batch_norm.nodes):
            batch_norm.problem = "is applied to what depends on no input"
        batch_norm.fixed = bool(traced.calls[batch_norm.nodes[0]].affine)
    applied = {id(traced.model.get_submodule(n.layer.name))
               for n in traced.graph.of_kind(Kind.BATCH_NORM) if n.layer}  # fmt: skip
    idle = [
        BatchNorm(path, [], problem=_why_not_seen(traced, path))
        for path, module in traced.model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and id(module) not in applied
    ]
    return [*found.values(), *idle]


def _why_not_seen(traced: TracedModel, path: str) -> str:
    statistics = {f"{path}.running_mean".lstrip("."), f"{path}.running_var".lstrip(".")}
    for node, call in traced.calls.items():
        if statistics & call.reads:
            return f"has statistics that {describe_node(node)} reads, which was not understood"
    apart = {
        str(node.target)
        for node in traced.fx.graph.nodes
        if isinstance(node.target, torch._ops.HigherOrderOperator)
    }
    if apart:
        return f"is run, if at all, in a region that is traced apart ({', '.join(sorted(apart))})"
    return "is never run by forward"


def _spelled_out(traced: TracedModel, node: Node, call: TracedCall) -> Map:
    shape = node.inputs[0].shape
    with in_float64(torch.float32):  # no rounding of ours in what is exact otherwise
        chain = [
            (name, [traced.value(one) for one in constants]) for name, constants in call.affine
        ]
    found = affine_map(chain, shape) if shape is not None else None
    if found is None:
        raise Blocked("multiplies and adds what is not one number per channel")
    if not all(bool(torch.isfinite(value).all()) for value in found):
        raise Blocked("has a scale or shift that is not finite")
    return found


def eval_map(traced: TracedModel, node: Node) -> Map:
    """Return scale and shift of a BatchNorm node; Blocked where it has none or bad ones."""
    call = traced.calls[node]
    if call.affine:
        return _spelled_out(traced, node, call)
    training: Any = call.arguments.get("training", False)
    module = traced.model.get_submodule(node.layer.name) if node.layer is not None else None
    if "running_mean" not in node.parameters and "running_mean" not in call.computed:
        raise Blocked("has track_running_stats=False: it normalises by each batch's own statistics")
    if training is not False:
        raise Blocked("is in train mode: call eval() first")
    if call.computed:
        raise Blocked("has statistics or parameters that are computed when the model runs")
    if module is not None and has_hooks(module):
        raise Blocked("has hooks")
    values: dict[str, torch.Tensor] = {}
    for role, name in node.parameters.items():
        tensor = traced.tensors.get(name)
        if tensor is None:
            raise Blocked(f"has a {role} that is no parameter or buffer of the model")
        if tensor.device.type == "meta":
            raise Blocked("is on the meta device and has no values")
        values[role] = traced.unrounded.get(name, tensor).detach()
    if not values.keys() >= {"running_mean", "running_var"}:
        raise Blocked("has statistics that are no parameters or buffers of the model")
    mean, variance = values["running_mean"], values["running_var"]
    eps = float(call.setting("eps"))
    for role, tensor in values.items():
        bad = ~torch.isfinite(tensor)
        if bool(bad.any()):
            raise Blocked(f"has a {role} that is not finite in channel {int(bad.nonzero()[0])}")
    bad = variance < 0
    if bool(bad.any()):
        raise Blocked(f"has a negative variance in channel {int(bad.nonzero()[0])}")
    scale, shift = algebra.batch_norm_map(
        mean, variance, values.get("weight"), values.get("bias"), eps
    )
    bad = ~(torch.isfinite(scale) & torch.isfinite(shift))
    if bool(bad.any()):
        raise Blocked(f"has an infinite scale in channel {int(bad.nonzero()[0])}")
    return scale.cpu(), shift.cpu()
