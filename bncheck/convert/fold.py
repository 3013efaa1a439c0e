"""Folds the BatchNorms of a model into the layers around them: plan, rewrite, verify."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bncheck.convert.copies import bake, copy_of, may_be_baked
from bncheck.convert.outcome import Refusal, Step
from bncheck.convert.parts import traceable_parts
from bncheck.convert.plan import FoldOptions, Plan
from bncheck.convert.planner import make_plan
from bncheck.convert.replacements import SurgeryFails
from bncheck.convert.rewrite_exported import rewrite_exported
from bncheck.convert.rewrite_graph import rewrite_graph
from bncheck.convert.rewrite_module import rewrite_module
from bncheck.errors import BNCheckError
from bncheck.model.guess import guess_inputs
from bncheck.model.trace import UntraceableError, same_results, trace, trace_program
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
    with left_as_it_was(model):
        if example_inputs is None and not example_kwargs:
            example_inputs = guess_inputs(model)
        inputs = draw(as_arguments(example_inputs), torch.Generator().manual_seed(0))
        keywords = draw(dict(example_kwargs or {}), torch.Generator().manual_seed(1))
        inputs, keywords = map_tensors((inputs, keywords), _with_samples)
        start = bake(model) if bake_parametrizations and may_be_baked(model) else model
        try:
            folded = _fold_whole(start, inputs, keywords, options)
        except UntraceableError as problem:
            folded = _fold_parts(start, inputs, keywords, options, str(problem))
        verification = compare(model, folded.model, inputs, keywords) if verify else None
    kept_class = type(folded.model) is type(model)
    return replace(folded, verification=verification, kept_class=kept_class)


def _fold_whole(
    model: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], options: FoldOptions
) -> FoldResult:
    plan = make_plan(trace(model, inputs, keywords), options)
    if not plan.batch_norms:
        raise _nothing_to_fold(model)
    plan, folded = _carry_out(plan, inputs, keywords)
    return _result(plan, folded)


def _result(plan: Plan, folded: Any) -> FoldResult:
    steps, refusals = tuple(plan.steps), tuple(plan.refusals)
    return FoldResult(folded, steps, refusals, None, plan.traced.how, True, plan.traced.notes)


def _fold_parts(
    model: nn.Module,
    inputs: tuple[Any, ...],
    keywords: dict[str, Any],
    options: FoldOptions,
    problem: str,
) -> FoldResult:
    """Fold within the parts that can be traced; the model's own code stays as it is."""
    memo: dict[int, Any] = {}
    steps: list[Step] = []
    refusals: list[Refusal] = []
    for part in traceable_parts(model, inputs, keywords):
        plan, folded = _carry_out(make_plan(part.traced, options), part.inputs, part.keywords)
        memo[id(model.get_submodule(part.path))] = folded
        at = f"{part.path}."
        for step in plan.steps:
            into = step.into
            if step.how != "partly":
                into = at + into.replace(", ", f", {at}")
            steps.append(Step(at + step.batch_norm, into, step.how))
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
    if steps and not _computes_the_same(model, changed, inputs, keywords):
        reason = "it is in a part that the rest of the model does not use as its own code says"
        refusals += [Refusal(step.batch_norm, reason) for step in steps]
        changed, steps = copy_of(model, {}), []
    return FoldResult(changed, tuple(steps), tuple(refusals), None, "record", True, (problem,))


def _computes_the_same(
    model: nn.Module, folded: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> bool:
    """Tell whether both give the same on these inputs and at other sizes, roughly."""
    with torch.no_grad():
        wanted = model(*copy.deepcopy(inputs), **copy.deepcopy(keywords))
        try:
            found = folded(*copy.deepcopy(inputs), **copy.deepcopy(keywords))
        except Exception:  # whatever the model's code raises when its parts are changed
            return False
    return same_results(wanted, found, loosely=True) and _answers_alike_elsewhere(
        model, folded, inputs, keywords
    )


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
    if not isinstance(model, nn.Module):
        raise BNCheckError(f"fold takes a torch.nn.Module, not {name}")
    if not any(_may_hold_batch_norm(module) for module in model.modules()):
        raise _nothing_to_fold(model)
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
            if not _answers_alike(plan, folded, inputs, keywords):
                problem = SurgeryFails("the model's own code does not compute what was traced")
            elif plan.traced.how == "fx" or _answers_alike_elsewhere(
                plan.traced.model, folded, inputs, keywords
            ):
                return plan, folded
            else:
                every = [step.batch_norm for step in plan.steps]
                refused = dict.fromkeys(every, "is in code that depends on the input's size")
                return _carry_out(make_plan(plan.traced, plan.options, refused), inputs, keywords)
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


def _answers_alike_elsewhere(
    model: nn.Module, folded: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> bool:
    """Tell whether both models compute the same at other sizes, as far as the first runs there.

    torch.export holds sizes fixed, and may have taken a branch that other sizes do not take.
    """
    for other in (_fewer_samples, _more_samples, _smaller):
        args, kwargs = map_tensors((inputs, keywords), other)
        try:
            with torch.no_grad():
                wanted = model(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        except Exception:  # this model does not take inputs of such a size
            continue
        try:
            with torch.no_grad():
                found = folded(*args, **kwargs)
        except Exception:  # whatever the model's code raises when its parts are changed
            return False
        if not same_results(wanted, found, loosely=True):
            return False
    return True


def _fewer_samples(value: Any) -> Any:
    return value[:1] if isinstance(value, torch.Tensor) and value.dim() > 1 else value


def _more_samples(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() < 2:
        return value
    return torch.cat([value, value[:1]])


def _smaller(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() < 3:
        return value
    for axis in range(2, value.dim()):
        value = value.narrow(axis, 0, (value.shape[axis] + 1) // 2)
    return value


def _may_hold_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or bool(module._buffers)
