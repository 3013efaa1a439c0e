"""Rewrites a BatchNorm that cannot go as the cheapest affine map.

Where every scale is positive, `relu(scale * x + shift) = scale * relu(x + shift / scale)`: the
scale may go forward through the activation into the layers after it, and an addition stays.
Otherwise one multiply-add stays.
"""

from __future__ import annotations

import torch

from bncheck.convert.algebra import Weights, rounding_problem
from bncheck.convert.forward import forward_changes
from bncheck.convert.labels import Blocked
from bncheck.convert.movement import drops_axes_by_size
from bncheck.convert.plan import BatchNorm, Plan


def push_partly(plan: Plan, batch_norm: BatchNorm) -> None:
    """Plan what stays of a BatchNorm that neither goes backward, forward nor sideways."""
    assert batch_norm.map is not None
    scale, shift = batch_norm.map
    try:
        if not bool((scale > 0).all() and torch.isfinite(shift / scale).all()):
            raise Blocked("has a scale that is not positive")
        _require_representable(plan, batch_norm, torch.ones_like(scale), shift / scale)
        labels = plan.table.scale_only(plan.labels(batch_norm))
        changes, maps, passed = forward_changes(plan, batch_norm, labels)
        if maps:
            raise Blocked("reaches another BatchNorm")
        plan.take(changes, {}, [], "partly", passed)
        plan.passed[batch_norm.name] = passed
        _keep(plan, batch_norm, torch.ones_like(scale), shift / scale, "addition")
    except Blocked:
        try:
            _require_representable(plan, batch_norm, scale, shift)
        except Blocked as reason:
            batch_norm.problem = str(reason)
        else:
            _keep(plan, batch_norm, scale, shift, "multiply-add")


def _require_representable(
    plan: Plan, batch_norm: BatchNorm, scale: torch.Tensor, shift: torch.Tensor
) -> None:
    """Raise Blocked where the dtype, or a tensor of one shape, cannot hold what would stay."""
    like = plan.traced.tensors[min(plan.traced.calls[batch_norm.nodes[0]].reads)]
    if any(map(drops_axes_by_size, plan.traced.calls.values())):
        raise Blocked("may have an input with other axes at another size, after squeeze()")
    problem = rounding_problem(Weights(scale.unsqueeze(1), shift), like.dtype)
    if problem is not None:
        dtype = str(like.dtype).removeprefix("torch.")
        raise Blocked(f"has a map whose channel {problem[0]} {problem[1]} in {dtype}")


def _keep(
    plan: Plan, batch_norm: BatchNorm, scale: torch.Tensor, shift: torch.Tensor, what: str
) -> None:
    plan.changed.discard(batch_norm.name)
    for node in batch_norm.nodes:
        plan.rest[node] = (scale, shift)
    plan.record(batch_norm, f"one {what}", "partly")
