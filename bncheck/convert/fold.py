"""Folds the BatchNorms of a model into the layers around them: plan, rewrite, verify."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bncheck.convert.carry_out import carry_out, carry_out_exported
from bncheck.convert.copies import bake, copy_of, may_be_baked
from bncheck.convert.elsewhere import Arguments, answers_alike_elsewhere, answers_with
from bncheck.convert.exact import exact_parameters
from bncheck.convert.outcome import Refusal, Step
from bncheck.convert.parts import traceable_parts
from bncheck.convert.plan import ATTEMPTS, FoldOptions, Plan
from bncheck.convert.planner import make_plan
from bncheck.convert.replacements import changed_tensors
from bncheck.convert.state import Tensors, left_as_it_was, restore
from bncheck.errors import BNCheckError
from bncheck.model.attributes import attributes_kept
from bncheck.model.guess import guess_inputs
from bncheck.model.trace import UntraceableError, trace, trace_program
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
    cut_short: tuple[tuple[str, ...], ...] = ()
    """Groups of BatchNorms that go into each other, some of which are left though not every order
    was tried: there may be one in which more go."""


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
    attempts: int = ATTEMPTS,
) -> FoldResult:
    """Return a copy of `model` without every BatchNorm that can be folded exactly.

    `example_inputs` is a tensor or a sequence of positional arguments of the model; shapes are
    what matters. The options are those of `FoldOptions`; where `attempts` cuts a search short, the
    result says so. The model given is left as it was.

    Raises BNCheckError for a model with no BatchNorm, one in train mode or not initialised, one
    that no tracer can read, or inputs that it does not run on.
    """
    require_foldable(model)
    options = FoldOptions(bake_parametrizations, duplicate_shared, keep_class, partial, attempts)
    with left_as_it_was(model) as before, attributes_kept(model) as attributes:
        if example_inputs is None and not example_kwargs:
            example_inputs = guess_inputs(model)
        inputs = draw(as_arguments(example_inputs), torch.Generator().manual_seed(0))
        keywords = draw(dict(example_kwargs or {}), torch.Generator().manual_seed(1))
        inputs, keywords = map_tensors((inputs, keywords), _with_samples)
        start, unrounded = model, dict[str, torch.Tensor]()
        if bake_parametrizations and may_be_baked(model):
            start, unrounded = bake(model)
        try:
            folded, plans = _fold_whole(start, unrounded, inputs, keywords, options)
        except UntraceableError as problem:
            folded, plans = _fold_parts(start, unrounded, inputs, keywords, options, str(problem))
        kept = unchanged(before, plans)
        restore(model, before)
        restore(folded.model, kept)
        verification = None
        if verify:
            exact = exact_parameters(plans.values(), folded.model, unrounded)
            verification = compare(model, folded.model, inputs, keywords, exact=exact)
            restore(folded.model, kept)
        attributes.put_into(folded.model)
    kept_class = type(folded.model) is type(model)
    return replace(folded, verification=verification, kept_class=kept_class)


def _fold_whole(
    model: nn.Module,
    unrounded: Mapping[str, torch.Tensor],
    inputs: tuple[Any, ...],
    keywords: dict[str, Any],
    options: FoldOptions,
) -> tuple[FoldResult, dict[str, Plan]]:
    plan = make_plan(replace(trace(model, inputs, keywords), unrounded=unrounded), options)
    if not plan.batch_norms:
        raise _nothing_to_fold(model)
    plan, folded = carry_out(plan, (inputs, keywords))
    return result_of(plan, folded), {"": plan}


def result_of(plan: Plan, folded: Any) -> FoldResult:
    """Return what a plan came to, unverified."""
    steps, refusals = tuple(plan.steps), tuple(plan.refusals)
    cut_short = tuple(plan.cut_short)
    notes = (*plan.traced.notes, *_notes_on_orders(cut_short, plan.options))
    return FoldResult(folded, steps, refusals, None, plan.traced.how, True, notes, cut_short)


def _notes_on_orders(
    cut_short: tuple[tuple[str, ...], ...], options: FoldOptions
) -> tuple[str, ...]:
    return tuple(
        f"there may be a plan in which more BatchNorms go: {len(names)} of them "
        f"({', '.join(names[:3])}{', ...' * (len(names) > 3)}) go into each other, and the "
        f"search for their best order ended after at most {options.attempts:,} moves"
        for names in cut_short
    )


def _fold_parts(
    model: nn.Module,
    unrounded: Mapping[str, torch.Tensor],
    inputs: tuple[Any, ...],
    keywords: dict[str, Any],
    options: FoldOptions,
    problem: str,
) -> tuple[FoldResult, dict[str, Plan]]:
    """Fold within the parts that can be traced; the model's own code stays as it is."""
    memo: dict[int, Any] = {}
    plans: dict[str, Plan] = {}
    steps: list[Step] = []
    refusals: list[Refusal] = []
    cut_short: list[tuple[str, ...]] = []
    for part in traceable_parts(model, inputs, keywords):
        at = f"{part.path}."
        own = {n.removeprefix(at): v for n, v in unrounded.items() if n.startswith(at)}
        plan = make_plan(replace(part.traced, unrounded=own), options)
        try:
            plan, folded = carry_out(plan, (part.inputs, part.keywords))
        except UntraceableError:
            continue
        memo[id(model.get_submodule(part.path))] = folded
        plans[at] = plan
        for step in plan.steps:
            into = step.into
            if step.how != "partly":
                into = at + into.replace(", ", f", {at}")
            steps.append(Step(at + step.batch_norm, into, step.how))
        cut_short += [tuple(at + name for name in names) for names in plan.cut_short]
        refusals += [
            Refusal(at + r.batch_norm, r.reason.replace("the model's", f"{part.path}'s"))
            for r in plan.refusals
        ]
    listed = {step.batch_norm for step in steps} | {r.batch_norm for r in refusals}
    refusals += [
        Refusal(path, "it is in code that no tracer can read")
        for path, module in model.named_modules()
        if isinstance(getattr(module, "running_mean", None), torch.Tensor) and path not in listed
    ]
    if not steps and not refusals:
        raise _nothing_to_fold(model)
    changed = copy_of(model, memo)
    arguments = (inputs, keywords)
    if steps and not (
        answers_with(_run(model, arguments), model, changed, arguments)
        and answers_alike_elsewhere(model, changed, arguments)
    ):
        reason = "it is in a part that the rest of the model does not use as its own code says"
        refusals += [Refusal(step.batch_norm, reason) for step in steps]
        changed, plans, steps, cut_short = copy_of(model, {}), {}, [], []
    groups = tuple(cut_short)
    notes = (problem, *_notes_on_orders(groups, options))
    result = FoldResult(changed, tuple(steps), tuple(refusals), None, "record", True, notes, groups)
    return result, plans


def _run(model: nn.Module, arguments: Arguments) -> Any:
    args, kwargs = copy.deepcopy(arguments)
    with torch.no_grad():
        return model(*args, **kwargs)


def _nothing_to_fold(model: nn.Module) -> BNCheckError:
    return BNCheckError(f"{type(model).__name__} holds no BatchNorm, so there is nothing to fold")


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
    if not isinstance(program, torch.export.ExportedProgram):
        raise BNCheckError(f"fold_exported takes an exported program, not {type(program).__name__}")
    options = FoldOptions(bake_parametrizations, duplicate_shared)
    with left_as_it_was(program) as before:
        plan = make_plan(trace_program(program), options)
        if not plan.batch_norms:
            raise BNCheckError("this program holds no BatchNorm, so there is nothing to fold")
        plan, folded = carry_out_exported(plan, program)
        kept = unchanged(before, {"": plan})
        restore(program, before)
        restore(folded, kept)
        verification = None
        if verify:
            own_inputs, own_keywords = program.example_inputs or ((), {})
            if example_inputs is None and example_kwargs is None:
                example_inputs, example_kwargs = own_inputs, own_keywords
            verification = compare(
                program,
                folded,
                as_arguments(example_inputs),
                example_kwargs,
                exact=exact_parameters([plan], folded),
            )
        restore(folded, kept)
    return replace(result_of(plan, folded), verification=verification)


def unchanged(before: Tensors, plans: Mapping[str, Plan]) -> Tensors:
    """Return the buffers that no plan changes; plans go by the path of their part, with its dot."""
    new: set[str] = set()
    for at, plan in plans.items():
        tensors = plan.traced.tensors
        changed = {id(tensors[name]) for name in changed_tensors(plan)}
        new.update(at + name for name, tensor in tensors.items() if id(tensor) in changed)
    return {name: tensor for name, tensor in before.items() if name not in new}


def _with_samples(value: Any) -> Any:
    """Return an example with two samples for one with none, which would show nothing."""
    if isinstance(value, torch.Tensor) and value.dim() and not value.shape[0]:
        return value.new_zeros((2, *value.shape[1:]))
    return value


def require_foldable(model: nn.Module) -> None:
    """Raise BNCheckError, before it is run, for a model that cannot be folded at all."""
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise BNCheckError(f"fold takes a torch.nn.Module, not {name}")
    if isinstance(model, torch.jit.ScriptModule):
        raise BNCheckError(
            f"fold takes a torch.nn.Module, and {name} is TorchScript: store it with "
            "torch.jit.save, and give the file to `bncheck fold`"
        )
    if not any(_may_hold_batch_norm(module) for module in model.modules()):
        raise _nothing_to_fold(model)
    tensors = [*model.parameters(), *model.buffers()]
    if any(torch.nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise BNCheckError(f"{name} has lazy layers that are not initialised yet: run it once")
    if any(tensor.device.type == "meta" for tensor in tensors):
        raise BNCheckError(f"{name} is on the meta device and has no values to fold")
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if model.training and all(norm.training for norm in norms):
        raise BNCheckError(
            f"{name} is in train mode, where BatchNorm cannot be folded: call eval() first"
        )


def _may_hold_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or bool(module._buffers)
