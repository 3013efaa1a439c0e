"""Folds the BatchNorms of a model into the layers around them: plan, rewrite, verify."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from bncheck.convert.backward import push_backward
from bncheck.convert.batch_norms import find_batch_norms
from bncheck.convert.forward import push_forward
from bncheck.convert.labels import Blocked
from bncheck.convert.plan import FoldOptions, Plan, Refusal, Step, unfinished
from bncheck.convert.producers import Producers
from bncheck.convert.replacements import SurgeryFails
from bncheck.convert.rewrite_exported import rewrite_exported
from bncheck.convert.rewrite_graph import rewrite_graph
from bncheck.convert.rewrite_module import rewrite_module
from bncheck.convert.sideways import merge_sideways
from bncheck.errors import BNCheckError
from bncheck.model.trace import TracedModel, same_results, trace, trace_program
from bncheck.verification.compare import Verification, as_arguments
from bncheck.verification.compare import verify as compare
from bncheck.verification.inputs import draw, map_tensors


@dataclass(frozen=True)
class FoldResult:
    """A folded model and how it came about."""

    model: Any
    """An `nn.Module`, or an `ExportedProgram` where one was given."""
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
    partial: bool = False,
    bake_parametrizations: bool = False,
    duplicate_shared: bool = False,
    keep_class: bool = False,
) -> FoldResult:
    """Return a copy of `model` without every BatchNorm that can be folded exactly.

    `example_inputs` is a tensor or a sequence of positional arguments of the model; shapes are
    what matters. The options are those of `FoldOptions`. The model given is left as it was.

    Raises BNCheckError for a model with no BatchNorm, one in train mode or not initialised, one
    that no tracer can read, or inputs that it does not run on.
    """
    require_foldable(model)
    options = FoldOptions(bake_parametrizations, duplicate_shared, keep_class, partial)
    inputs = draw(as_arguments(example_inputs), torch.Generator().manual_seed(0))
    keywords = draw(dict(example_kwargs or {}), torch.Generator().manual_seed(1))
    inputs, keywords = map_tensors((inputs, keywords), _with_samples)
    with left_as_it_was(model):
        traced = trace(model, inputs, keywords)
        plan = make_plan(traced, options)
        if not plan.batch_norms:
            raise BNCheckError(
                f"{type(model).__name__} holds no BatchNorm, so there is nothing to fold"
            )
        plan, folded = _carry_out(plan, inputs, keywords)
        verification = compare(model, folded, inputs, keywords) if verify else None
    return FoldResult(
        folded,
        tuple(plan.steps),
        tuple(plan.refusals),
        verification,
        traced.how,
        type(folded) is type(model),
        traced.notes,
    )


def fold_exported(
    program: torch.export.ExportedProgram,
    example_inputs: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    verify: bool = True,
    bake_parametrizations: bool = False,
    duplicate_shared: bool = False,
) -> FoldResult:
    """Return an exported program without every BatchNorm that can be folded exactly.

    Its inputs, outputs and dynamic shapes stay. Example inputs serve the verification; the plan
    is made on the program's own. Raises BNCheckError for a program with no BatchNorm or no
    example inputs of its own.
    """
    options = FoldOptions(bake_parametrizations, duplicate_shared)
    traced = trace_program(program)
    plan = make_plan(traced, options)
    if not plan.batch_norms:
        raise BNCheckError("this program holds no BatchNorm, so there is nothing to fold")
    folded = rewrite_exported(plan, program)
    verification = None
    if verify:
        own_inputs, own_keywords = program.example_inputs or ((), {})
        if example_inputs is None and example_kwargs is None:
            example_inputs, example_kwargs = own_inputs, own_keywords
        verification = compare(program, folded, as_arguments(example_inputs), example_kwargs)
    return FoldResult(folded, tuple(plan.steps), tuple(plan.refusals), verification, "export", True)


def _with_samples(value: Any) -> Any:
    """Return an example with two samples for one with none, which would show nothing."""
    if isinstance(value, torch.Tensor) and value.dim() and not value.shape[0]:
        return value.new_zeros((2, *value.shape[1:]))
    return value


def require_foldable(model: nn.Module) -> None:
    """Raise BNCheckError, before it is run, for a model that cannot be folded at all."""
    name = type(model).__name__
    if not any(_may_hold_batch_norm(module) for module in model.modules()):
        raise BNCheckError(f"{name} holds no BatchNorm, so there is nothing to fold")
    if any(torch.nn.parameter.is_lazy(p) for p in model.parameters()):
        raise BNCheckError(f"{name} has lazy layers that are not initialised yet: run it once")
    if any(p.device.type == "meta" for p in model.parameters()):
        raise BNCheckError(f"{name} is on the meta device and has no values to fold")
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if model.training and all(norm.training for norm in norms):
        raise BNCheckError(
            f"{name} is in train mode, where BatchNorm cannot be folded: call eval() first"
        )


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Put the model's buffers and the random state back after it has run."""
    before = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    old = before.get(name)
                    if old is not None and not _same(old, buffer):
                        buffer.copy_(old)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _carry_out(
    plan: Plan, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[Plan, nn.Module]:
    """Rewrite the model itself where that is enough, its traced graph otherwise."""
    refused: dict[str, str] = {}
    while True:
        try:
            folded = rewrite_module(plan)
            if _answers_alike(plan, folded, inputs, keywords):
                return plan, folded
            problem = SurgeryFails("changes what the model's own code computes")
        except SurgeryFails as failure:
            problem = failure
        options = plan.options
        if not options.keep_class:
            return plan, rewrite_graph(plan)
        if problem.batch_norm is None and not (options.duplicate_shared or plan.baked):
            raise BNCheckError(f"the class cannot be kept: {problem}")
        if problem.batch_norm is None:
            options = replace(options, duplicate_shared=False, bake_parametrizations=False)
        else:
            refused[problem.batch_norm] = f"{problem}, which keep_class does not allow"
        plan = make_plan(plan.traced, options, refused)


def _answers_alike(
    plan: Plan, folded: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> bool:
    """Tell whether the rewritten model runs, and computes what the traced one did, roughly."""
    try:
        with torch.no_grad():
            output = folded(*copy.deepcopy(inputs), **copy.deepcopy(keywords))
    except Exception:  # whatever the model's code raises when its parts are changed
        return False
    return same_results(plan.traced.output, output, loosely=True)


def make_plan(
    traced: TracedModel,
    options: FoldOptions | None = None,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Plan the removal of as many BatchNorms as can be removed exactly.

    `refused` names BatchNorms that must stay, each with the reason.
    """
    options = options or FoldOptions()
    plan = Plan(traced, Producers(traced, options.bake_parametrizations), options)
    plan.batch_norms = find_batch_norms(traced)
    for batch_norm in plan.batch_norms:
        batch_norm.problem = refused.get(batch_norm.name, batch_norm.problem)
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
