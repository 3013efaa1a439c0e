"""Carries a plan out: on the model itself where that is enough, on its traced graph otherwise.

What comes out is run, and runs as the model does, or the steps that are to blame are taken back.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from bncheck.convert.elsewhere import Arguments, answers_alike_elsewhere, answers_with
from bncheck.convert.plan import Plan
from bncheck.convert.planner import make_plan
from bncheck.convert.replacements import SurgeryFails
from bncheck.convert.rewrite_graph import rewrite_graph
from bncheck.convert.rewrite_module import rewrite_module
from bncheck.convert.sizes import steps_that_rest_on_size
from bncheck.errors import BNCheckError

RESTS_ON_SIZE = "is in code that depends on the input's size"
TRIES = 24
"""How many times a model is folded to find the steps that are wrong at other sizes, before all
are taken back that may be."""


def carry_out(plan: Plan, arguments: Arguments) -> tuple[Plan, nn.Module]:
    """Return the folded model, and the plan without what could not be carried out.

    Raises BNCheckError where the class is to be kept and cannot be.
    """
    plan, folded = _rewritten(plan, arguments)
    doubtful = steps_that_rest_on_size(plan)
    if not doubtful or _right_elsewhere(plan, folded, arguments):
        return plan, folded
    wrong = _wrong_elsewhere(plan, arguments, doubtful)
    plan, folded = _rewritten(_without(plan, wrong), arguments)
    if _right_elsewhere(plan, folded, arguments):
        return plan, folded
    return _rewritten(_without(plan, [*wrong, *steps_that_rest_on_size(plan)]), arguments)


def _wrong_elsewhere(plan: Plan, arguments: Arguments, doubtful: list[str]) -> list[str]:
    """Return those of the BatchNorms whose removal is wrong at another size, by halving."""
    wrong: list[str] = []
    groups, tries = [doubtful], 0
    while groups:
        group = groups.pop()
        tries += 1
        if tries > TRIES:
            wrong += group
        elif tries == 1 or not _right_without(plan, arguments, set(doubtful).difference(group)):
            half = len(group) // 2
            if half:
                groups += [group[half:], group[:half]]
            else:
                wrong += group
    return wrong


def _right_without(plan: Plan, arguments: Arguments, refused: set[str]) -> bool:
    smaller, folded = _rewritten(_without(plan, sorted(refused)), arguments)
    return _right_elsewhere(smaller, folded, arguments)


def _right_elsewhere(plan: Plan, folded: nn.Module, arguments: Arguments) -> bool:
    fixed = plan.traced.how != "fx" and type(folded) is not type(plan.traced.model)
    return answers_alike_elsewhere(plan.traced.model, folded, arguments, fixed)


def _without(plan: Plan, names: list[str]) -> Plan:
    refused = {**plan.refused, **dict.fromkeys(names, RESTS_ON_SIZE)}
    return make_plan(plan.traced, plan.options, refused)


def _rewritten(plan: Plan, arguments: Arguments) -> tuple[Plan, nn.Module]:
    while True:
        try:
            folded = rewrite_module(plan)
            if answers_with(plan.traced.output, plan.traced.model, folded, arguments):
                return plan, folded
            problem = SurgeryFails("the model's own code does not compute what was traced")
        except SurgeryFails as failure:
            problem = failure
        options = plan.options
        if not options.keep_class:
            return plan, rewrite_graph(plan)
        if problem.batch_norm is None and not (options.duplicate_shared or plan.baked):
            raise BNCheckError(f"the class cannot be kept: {problem}")
        refused = dict(plan.refused)
        if problem.batch_norm is None:
            options = replace(options, duplicate_shared=False, bake_parametrizations=False)
        else:
            refused[problem.batch_norm] = f"{problem}, which keep_class does not allow"
        plan = make_plan(plan.traced, options, refused)
