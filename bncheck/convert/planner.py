"""Makes the plan of a fold: every BatchNorm, every way, until nothing more goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from types import MappingProxyType

from bncheck.convert.around import push_around
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

FEW = 4
"""How many contested BatchNorms are tried in every combination."""

_WAYS = {
    "backward": push_backward,
    "forward": push_forward,
    "sideways": merge_sideways,
    "around": push_around,
}


def make_plan(
    traced: TracedModel,
    options: FoldOptions | None = None,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Plan the removal of as many BatchNorms as can be removed exactly.

    `refused` names BatchNorms that must stay, each with the reason. Where a BatchNorm can go into
    others or they into it, both orders are tried: all of them where they are few.
    """
    if traced.how == "record":  # the graph shows what is run, and cannot take the code's place
        options = FoldOptions(keep_class=True)
    plan = _planned(traced, options, refused, frozenset())
    late: frozenset[str] = frozenset()
    for group in _contested(plan):
        for some in _choices(group):
            other = _planned(traced, options, refused, late | some)
            if len(other.refusals) < len(plan.refusals):
                plan, late = other, late | some
    return plan


def _contested(plan: Plan) -> list[list[str]]:
    """Return groups of BatchNorms that went into others, of which several stay.

    Those that stay could have gone into the ones that went: several gone then, and not one.
    """
    staying = {refusal.batch_norm for refusal in plan.refusals} & plan.changed
    ours = {batch_norm.name for batch_norm in plan.batch_norms}
    groups: list[tuple[set[str], set[str]]] = []
    for step in plan.steps:
        takers = set(step.into.split(", ")) & ours
        if not takers or step.how != "backward":
            continue
        names, together = {step.batch_norm}, takers | {step.batch_norm}
        for group in [g for g in groups if g[1] & together]:
            groups.remove(group)
            names, together = names | group[0], together | group[1]
        groups.append((names, together))
    return [sorted(names) for names, together in groups if len(together & staying) > 1]


def _choices(names: list[str]) -> Iterator[frozenset[str]]:
    """Yield the sets of BatchNorms to hold back at first: every one, where there are few."""
    if len(names) > FEW:
        yield frozenset(names)
        yield from (frozenset({name}) for name in names[:FEW])
        return
    for count in range(len(names), 0, -1):
        yield from map(frozenset, combinations(names, count))


def _planned(
    traced: TracedModel,
    options: FoldOptions | None,
    refused: Mapping[str, str],
    late: frozenset[str],
) -> Plan:
    """Plan every BatchNorm in turn; those in `late` go only after others had their turn."""
    options = options or FoldOptions()
    plan = Plan(traced, Producers(traced, options.bake_parametrizations), options)
    plan.refused = dict(refused)
    plan.batch_norms = find_batch_norms(traced)
    for batch_norm in plan.batch_norms:
        batch_norm.stays = refused.get(batch_norm.name)
    progress = first = True
    while progress:
        before = len(plan.steps)
        for way, push in _WAYS.items():
            for batch_norm in unfinished(plan):
                if way == "backward" and first and batch_norm.name in late:
                    continue
                try:
                    push(plan, batch_norm)
                except Blocked as reason:
                    batch_norm.reasons[way] = str(reason)
        progress = (first and bool(late)) or len(plan.steps) > before
        first = False
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
    problem = batch_norm.stays or batch_norm.problem
    if problem is not None:
        return f"it {problem}"
    reasons = batch_norm.reasons
    return f"backward, it {reasons['backward']}; forward, it {reasons['forward']}"
