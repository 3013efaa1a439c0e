"""Carries a plan out: on the model itself where that is enough, on its traced graph otherwise.

What comes out is run, and runs as the model does, or the steps that are to blame are taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from torch import nn
from torch.export import ExportedProgram

from bncheck.convert.elsewhere import (
    Arguments,
    answers_alike_elsewhere,
    answers_alike_on_other_values,
    answers_with,
)
from bncheck.convert.exact import exact_parameters
from bncheck.convert.plan import Plan
from bncheck.convert.planner import make_plan
from bncheck.convert.replacements import SurgeryFails
from bncheck.convert.rewrite_exported import rewrite_exported
from bncheck.convert.rewrite_graph import rewrite_graph
from bncheck.convert.rewrite_module import rewrite_module
from bncheck.convert.sizes import steps_that_rest_on_size
from bncheck.errors import BNCheckError
from bncheck.model.trace import UntraceableError

RESTS_ON_SIZE = "is in code that depends on the input's size"
TRIES = 24
"""How many times a model is folded to find the steps that are wrong at other sizes, before all
are taken back that may be."""


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
        exact = exact_parameters([plan], folded)
        return answers_alike_elsewhere(model, folded, arguments, fixed, exact)

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


Folded = TypeVar("Folded")
Rewrite = Callable[[Plan], tuple[Plan, Folded]]
Judge = Callable[[Plan, Folded], bool]


def _held(plan: Plan, rewrite: Rewrite[Folded], right: Judge[Folded]) -> tuple[Plan, Folded]:
    """Return what a plan makes of a model, without the steps that are wrong at other sizes."""
    plan, folded = rewrite(plan)
    doubtful = steps_that_rest_on_size(plan)
    if not doubtful or right(plan, folded):
        return plan, folded
    wrong = _wrong(plan, rewrite, right, doubtful)
    plan, folded = rewrite(_without(plan, wrong))
    if right(plan, folded):
        return plan, folded
    return rewrite(_without(plan, [*wrong, *steps_that_rest_on_size(plan)]))


def _wrong(
    plan: Plan, rewrite: Rewrite[Folded], right: Judge[Folded], doubtful: list[str]
) -> list[str]:
    """Return those of the BatchNorms whose removal is wrong at another size, by halving."""
    wrong: list[str] = []
    groups, tries = [doubtful], 0
    while groups:
        group = groups.pop()
        tries += 1
        if tries > TRIES:
            wrong += group
            continue
        others = sorted(set(doubtful).difference(group))
        if others and right(*rewrite(_without(plan, others))):
            continue
        half = len(group) // 2
        if half:
            groups += [group[half:], group[:half]]
        else:
            wrong += group
    return wrong


def _without(plan: Plan, names: list[str]) -> Plan:
    refused = {**plan.refused, **dict.fromkeys(names, RESTS_ON_SIZE)}
    return make_plan(plan.traced, plan.options, refused)


def _rewritten(plan: Plan, arguments: Arguments) -> tuple[Plan, nn.Module]:
    while True:
        try:
            folded = rewrite_module(plan)
            exact = exact_parameters([plan], folded)
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
        plan = make_plan(plan.traced, options, refused)
