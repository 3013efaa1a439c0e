"""Carries a plan out: on the model itself where that is enough, on its traced graph otherwise.

What comes out is run, and runs as the model does, or the steps that are to blame are taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from torch import nn
from torch.export import ExportedProgram

from bncheck.convert.elsewhere import (
    Arguments,
    Exact,
    answers_alike_elsewhere,
    answers_alike_on_other_values,
    answers_with,
)
from bncheck.convert.exact import exact_parameters
from bncheck.convert.overflow import computes_in_half, new_overflow
from bncheck.convert.plan import RESTS_ON_SIZE, Plan
from bncheck.convert.planner import continued, make_plan, replayed
from bncheck.convert.replacements import SurgeryFails
from bncheck.convert.rewrite_exported import rewrite_exported
from bncheck.convert.rewrite_graph import rewrite_graph
from bncheck.convert.rewrite_module import rewrite_module
from bncheck.convert.rewrite_script import Rewritten, rewrite_script
from bncheck.convert.sizes import steps_that_rest_on_size
from bncheck.errors import BNCheckError
from bncheck.model.trace import UntraceableError

TRIES = 16
"""How many wrong moves are looked for, before all are taken back that may be wrong."""


Folded = TypeVar("Folded")
Rewrite = Callable[[Plan], tuple[Plan, Folded]]


@dataclass(frozen=True)
class _Check(Generic[Folded]):
    """What a folded model is held to when it runs."""

    problem: Callable[[Plan, Folded], str | None]
    """Why some BatchNorm has to stay, as the end of a sentence; None where all is right."""
    doubtful: Callable[[Plan], list[str]]
    """The BatchNorms that have to stay where no one is found to be to blame."""


def carry_out(plan: Plan, arguments: Arguments) -> tuple[Plan, nn.Module]:
    """Return the folded model, and the plan without what could not be carried out.

    Raises BNCheckError where the class is to be kept and cannot be, UntraceableError where a
    recorded run did not show what the model's code uses.
    """
    model = plan.traced.model

    def right_elsewhere(plan: Plan, folded: nn.Module) -> bool:
        fixed = plan.traced.how != "fx" and type(folded) is not type(model)
        if plan.traced.how == "record" and not answers_alike_on_other_values(
            model, folded, arguments
        ):
            return False
        return answers_alike_elsewhere(model, folded, arguments, fixed, _exact(plan, folded))

    return _held(
        plan,
        lambda smaller: _rewritten(smaller, arguments),
        _in_range(lambda plan, folded: new_overflow(plan, model, folded, arguments)),
        _at_other_sizes(right_elsewhere),
    )


def carry_out_exported(plan: Plan, program: ExportedProgram) -> tuple[Plan, ExportedProgram]:
    """Return the folded program, and the plan without what is wrong at sizes that it takes."""
    arguments: Arguments = program.example_inputs or ((), {})

    def overflow(plan: Plan, folded: ExportedProgram) -> str | None:
        return new_overflow(plan, program.module(), folded.module(), arguments)

    def right_elsewhere(plan: Plan, folded: ExportedProgram) -> bool:
        fixed = not program.range_constraints
        return fixed or answers_alike_elsewhere(program.module(), folded.module(), arguments)

    return _held(
        plan,
        lambda smaller: (smaller, rewrite_exported(smaller, program)),
        _in_range(overflow),
        _at_other_sizes(right_elsewhere),
    )


def carry_out_script(plan: Plan, module: Any, arguments: Arguments) -> tuple[Plan, Rewritten]:
    """Return the folded TorchScript, and the plan without what is wrong at other sizes."""

    def overflow(plan: Plan, folded: Rewritten) -> str | None:
        return new_overflow(plan, module, folded.module, arguments)

    def right_elsewhere(plan: Plan, folded: Rewritten) -> bool:
        return answers_alike_elsewhere(module, folded.module, arguments)

    return _held(
        plan,
        lambda smaller: (smaller, rewrite_script(smaller, module)),
        _in_range(overflow),
        _at_other_sizes(right_elsewhere),
    )


def _in_range(overflow: Callable[[Plan, Folded], str | None]) -> _Check[Folded]:
    """Return the check that nothing overflows that did not before, in half precision."""

    def problem(plan: Plan, folded: Folded) -> str | None:
        return overflow(plan, folded) if plan.steps and computes_in_half(plan) else None

    return _Check(problem, lambda plan: [step.batch_norm for step in plan.steps])


def _at_other_sizes(right: Callable[[Plan, Folded], bool]) -> _Check[Folded]:
    """Return the check that what may rest on the example's size is right at others."""

    def problem(plan: Plan, folded: Folded) -> str | None:
        wrong = steps_that_rest_on_size(plan) and not right(plan, folded)
        return RESTS_ON_SIZE if wrong else None

    return _Check(problem, steps_that_rest_on_size)


def _held(plan: Plan, rewrite: Rewrite[Folded], *checks: _Check[Folded]) -> tuple[Plan, Folded]:
    """Return what a plan makes of a model, without the moves that some check finds wrong."""
    plan, folded = rewrite(plan)
    for check in checks:
        plan, folded = _held_to(check, plan, folded, rewrite)
    return plan, folded


def _held_to(
    check: _Check[Folded], plan: Plan, folded: Folded, rewrite: Rewrite[Folded]
) -> tuple[Plan, Folded]:
    """Return the plan and the model without the moves that a check finds wrong.

    Of the moves in their order, the first with which the model is wrong is barred, and the plan
    goes on without it: what cannot go one way may go another.
    """
    known = 0
    problem = check.problem(plan, folded)
    for _ in range(TRIES):
        if problem is None:
            return plan, folded
        known, problem = _first_wrong_move(
            check, plan, problem, rewrite, min(known, len(plan.moves) - 1)
        )
        first, barred = plan.moves[:known], {**plan.barred, plan.moves[known]: problem}
        plan, folded = rewrite(continued(plan, first, barred))
        if plan.moves[:known] != first:  # the rewriting has refused one of them
            known = 0
        problem = check.problem(plan, folded)
    if problem is None:
        return plan, folded
    refused = {**plan.refused, **dict.fromkeys(check.doubtful(plan), problem)}
    return rewrite(make_plan(plan.traced, plan.options, refused, plan.barred))


def _first_wrong_move(
    check: _Check[Folded], plan: Plan, problem: str, rewrite: Rewrite[Folded], known: int
) -> tuple[int, str]:
    """Return the place of a move with which a plan becomes wrong, and how, by halving.

    The moves before `known` are right, and all together have a problem.
    """
    low, high = known, len(plan.moves)
    while high - low > 1:
        middle = (low + high) // 2
        found = check.problem(*rewrite(replayed(plan, plan.moves[:middle])))
        if found is None:
            low = middle
        else:
            high, problem = middle, found
    return low, problem


def _exact(plan: Plan, folded: nn.Module) -> Exact:
    """Return the exact values, where the model that was traced has them as well."""
    return {} if plan.traced.unrounded else exact_parameters([plan], folded)


def _rewritten(plan: Plan, arguments: Arguments) -> tuple[Plan, nn.Module]:
    while True:
        try:
            folded = rewrite_module(plan)
            exact = _exact(plan, folded)
            if answers_with(plan.traced.output, plan.traced.model, folded, arguments, exact):
                return plan, folded
            problem = SurgeryFails("the model's own code does not compute what was traced")
        except SurgeryFails as failure:
            problem = failure
        options = plan.options
        if not options.keep_class:
            return plan, rewrite_graph(plan)
        if problem.batch_norm is None and plan.traced.how == "record":
            raise UntraceableError(str(problem))
        if problem.batch_norm is None and not (options.duplicate_shared or plan.baked):
            raise BNCheckError(f"the class cannot be kept: {problem}")
        refused = dict(plan.refused)
        if problem.batch_norm is None:
            options = replace(options, duplicate_shared=False, bake_parametrizations=False)
        else:
            what = "keep_class" if plan.traced.how != "record" else "code that no tracer can read"
            refused[problem.batch_norm] = f"{problem}, which {what} does not allow"
        plan = make_plan(plan.traced, options, refused, plan.barred)
