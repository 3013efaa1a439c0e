"""Carries a plan out: on the model itself where that is enough, on its traced graph otherwise.

What comes out is run, and runs as the model does, or the steps that are to blame are taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

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

TRIES = 8
"""How many moves that are wrong at other sizes are looked for, before all are taken back that may
be."""


def carry_out(plan: Plan, arguments: Arguments) -> tuple[Plan, nn.Module]:
    """Return the folded model, and the plan without what could not be carried out.

    Raises BNCheckError where the class is to be kept and cannot be, UntraceableError where a
    recorded run did not show what the model's code uses.
    """

    def right_elsewhere(plan: Plan, folded: nn.Module) -> bool:
        fixed = plan.traced.how != "fx" and type(folded) is not type(plan.traced.model)
        model = plan.traced.model
        if plan.traced.how == "record" and not answers_alike_on_other_values(
            model, folded, arguments
        ):
            return False
        return answers_alike_elsewhere(model, folded, arguments, fixed, _exact(plan, folded))

    return _held(plan, lambda smaller: _rewritten(smaller, arguments), right_elsewhere)


def carry_out_exported(plan: Plan, program: ExportedProgram) -> tuple[Plan, ExportedProgram]:
    """Return the folded program, and the plan without what is wrong at sizes that it takes."""
    arguments: Arguments = program.example_inputs or ((), {})

    def right_elsewhere(plan: Plan, folded: ExportedProgram) -> bool:
        fixed = not program.range_constraints
        return fixed or answers_alike_elsewhere(program.module(), folded.module(), arguments)

    return _held(
        plan, lambda smaller: (smaller, rewrite_exported(smaller, program)), right_elsewhere
    )


def carry_out_script(plan: Plan, module: Any, arguments: Arguments) -> tuple[Plan, Rewritten]:
    """Return the folded TorchScript, and the plan without what is wrong at other sizes."""

    def right_elsewhere(plan: Plan, folded: Rewritten) -> bool:
        return answers_alike_elsewhere(module, folded.module, arguments)

    return _held(plan, lambda smaller: (smaller, rewrite_script(smaller, module)), right_elsewhere)


Folded = TypeVar("Folded")
Rewrite = Callable[[Plan], tuple[Plan, Folded]]
Judge = Callable[[Plan, Folded], bool]


def _held(plan: Plan, rewrite: Rewrite[Folded], right: Judge[Folded]) -> tuple[Plan, Folded]:
    """Return what a plan makes of a model, without the moves that are wrong at other sizes.

    Of the moves in their order, the first with which the model is wrong is barred, and the plan
    goes on without it: what cannot go one way may go another.
    """
    plan, folded = rewrite(plan)
    known = 0
    for _ in range(TRIES):
        if not steps_that_rest_on_size(plan) or right(plan, folded):
            return plan, folded
        known = _right_moves(plan, rewrite, right, min(known, len(plan.moves) - 1))
        first, barred = plan.moves[:known], plan.barred | {plan.moves[known]}
        plan, folded = rewrite(continued(plan, first, barred))
        if plan.moves[:known] != first:  # the rewriting has refused one of them
            known = 0
    doubtful = steps_that_rest_on_size(plan)
    if not doubtful or right(plan, folded):
        return plan, folded
    refused = {**plan.refused, **dict.fromkeys(doubtful, RESTS_ON_SIZE)}
    return rewrite(make_plan(plan.traced, plan.options, refused, plan.barred))


def _right_moves(plan: Plan, rewrite: Rewrite[Folded], right: Judge[Folded], known: int) -> int:
    """Return how many moves of a plan can be made before it is wrong, by halving.

    The first `known` are right, and all together are not.
    """
    low, high = known, len(plan.moves)
    while high - low > 1:
        middle = (low + high) // 2
        if right(*rewrite(replayed(plan, plan.moves[:middle]))):
            low = middle
        else:
            high = middle
    return low


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
