"""Folds the BatchNorms of a model into the layers around them: plan, rewrite, verify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bncheck.convert.backward import push_backward
from bncheck.convert.forward import push_forward
from bncheck.convert.labels import Blocked
from bncheck.convert.plan import Plan, Refusal, Step, find_batch_norms, unfinished
from bncheck.convert.producers import Producers
from bncheck.convert.rewrite_module import rewrite_module
from bncheck.convert.sideways import merge_sideways
from bncheck.errors import BNCheckError
from bncheck.model.trace import TracedModel, trace
from bncheck.verification.compare import Verification, as_arguments
from bncheck.verification.compare import verify as compare
from bncheck.verification.inputs import draw


@dataclass(frozen=True)
class FoldResult:
    """A folded model and how it came about."""

    model: nn.Module
    steps: tuple[Step, ...]
    refusals: tuple[Refusal, ...]
    verification: Verification | None
    """None where it was not asked for."""
    traced_by: str
    """`fx`, `export` or `record`."""
    kept_class: bool
    """Whether `model` has the class it had, rather than being a `torch.fx.GraphModule`."""
    notes: tuple[str, ...] = ()


def fold(
    model: nn.Module,
    example_inputs: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    verify: bool = True,
) -> FoldResult:
    """Return a copy of `model` without every BatchNorm that can be folded exactly.

    `example_inputs` is a tensor or a sequence of positional arguments of the model; shapes are
    what matters. The model given is left as it was.

    Raises BNCheckError for a model with no BatchNorm, one that no tracer can read, or inputs that
    it does not run on.
    """
    if not any(_may_hold_batch_norm(module) for module in model.modules()):
        raise BNCheckError(
            f"{type(model).__name__} holds no BatchNorm, so there is nothing to fold"
        )
    inputs = draw(as_arguments(example_inputs), torch.Generator().manual_seed(0))
    keywords = draw(dict(example_kwargs or {}), torch.Generator().manual_seed(1))
    traced = trace(model, inputs, keywords)
    plan = make_plan(traced)
    if not plan.batch_norms:
        raise BNCheckError(
            f"{type(model).__name__} holds no BatchNorm, so there is nothing to fold"
        )
    folded = rewrite_module(plan)
    verification = compare(model, folded, inputs, keywords) if verify else None
    return FoldResult(
        folded, tuple(plan.steps), tuple(plan.refusals), verification, traced.how, True,
        traced.notes,
    )  # fmt: skip


def make_plan(traced: TracedModel) -> Plan:
    """Plan the removal of as many BatchNorms as can be removed exactly."""
    plan = Plan(traced, Producers(traced))
    plan.batch_norms = find_batch_norms(traced)
    if traced.model.training:
        for batch_norm in plan.batch_norms:
            batch_norm.problem = "is in a model in train mode: call eval() first"
    ways = {"backward": push_backward, "forward": push_forward, "sideways": merge_sideways}
    progress = True
    while progress:
        before = len(plan.steps)
        for way, push in ways.items():
            for batch_norm in unfinished(plan):
                if set(batch_norm.nodes) & plan.removed:
                    continue
                try:
                    push(plan, batch_norm)
                except Blocked as reason:
                    batch_norm.reasons[way] = str(reason)
        progress = len(plan.steps) > before
    for batch_norm in plan.batch_norms:
        if not batch_norm.nodes or not set(batch_norm.nodes) & plan.removed:
            plan.refusals.append(
                Refusal(batch_norm.name, _reason(batch_norm.problem, batch_norm.reasons))
            )
    order = {batch_norm.name: i for i, batch_norm in enumerate(plan.batch_norms)}
    plan.steps.sort(key=lambda step: order[step.batch_norm])
    return plan


def _reason(problem: str | None, reasons: Mapping[str, str]) -> str:
    if problem is not None:
        return f"it {problem}"
    backward, forward = reasons.get("backward", ""), reasons.get("forward", "")
    return f"backward, it {backward}; forward, it {forward}"


def _may_hold_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or bool(module._buffers)
