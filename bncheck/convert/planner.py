"""Makes the plan of a fold: every BatchNorm, every way, until nothing more goes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bncheck.convert.backward import push_backward
from bncheck.convert.batch_norms import find_batch_norms
from bncheck.convert.forward import push_forward
from bncheck.convert.labels import Blocked
from bncheck.convert.outcome import Refusal
from bncheck.convert.partial import push_partly
from bncheck.convert.plan import BatchNorm, FoldOptions, Plan, unfinished
from bncheck.convert.producers import Producers
from bncheck.convert.sideways import merge_sideways
from bncheck.model.trace import TracedModel

_WAYS = {"backward": push_backward, "forward": push_forward, "sideways": merge_sideways}


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
    plan.refused = dict(refused)
    plan.batch_norms = find_batch_norms(traced)
    for batch_norm in plan.batch_norms:
        batch_norm.problem = refused.get(batch_norm.name, batch_norm.problem)
    progress = True
    while progress:
        before = len(plan.steps)
        for way, push in _WAYS.items():
            for batch_norm in unfinished(plan):
                try:
                    push(plan, batch_norm)
                except Blocked as reason:
                    batch_norm.reasons[way] = str(reason)
        progress = len(plan.steps) > before
    if options.partial and not options.keep_class:
        for batch_norm in unfinished(plan):
            push_partly(plan, batch_norm)
    plan.refusals = [
        Refusal(batch_norm.name, _reason(batch_norm))
        for batch_norm in plan.batch_norms
        if not (plan.removed | plan.rest.keys()).intersection(batch_norm.nodes)
    ]
    order = {batch_norm.name: i for i, batch_norm in enumerate(plan.batch_norms)}
    plan.steps.sort(key=lambda step: order[step.batch_norm])
    return plan


def _reason(batch_norm: BatchNorm) -> str:
    if batch_norm.problem is not None:
        return f"it {batch_norm.problem}"
    reasons = batch_norm.reasons
    return f"backward, it {reasons['backward']}; forward, it {reasons['forward']}"
