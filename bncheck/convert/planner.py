"""Makes the plan of a fold: every BatchNorm, every way, until nothing more goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import MappingProxyType

import torch

from bncheck.convert.additions import read_as_additions
from bncheck.convert.batch_norms import find_batch_norms
from bncheck.convert.instance_norms import read_as_batch_norms
from bncheck.convert.outcome import Refusal
from bncheck.convert.plan import BatchNorm, FoldOptions, Move, Plan, unfinished
from bncheck.convert.producers import Producers
from bncheck.convert.search import WAYS, better_orders, copied, make_moves, try_move
from bncheck.convert.sideways import ALONE
from bncheck.convert.spelled_layers import read_as_layers
from bncheck.model.trace import TracedModel


@contextmanager
def _on_the_cpu() -> Iterator[None]:
    """Plan on the CPU, whatever device new tensors are on by default."""
    with nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"):
        yield


@_on_the_cpu()
def make_plan(
    traced: TracedModel,
    options: FoldOptions | None = None,
    refused: Mapping[str, str] = MappingProxyType({}),
    barred: Mapping[Move, str] = MappingProxyType({}),
) -> Plan:
    """Plan the removal of as many BatchNorms as can be removed exactly.

    `refused` names BatchNorms that must stay, each with the reason; `barred` moves are not made.
    """
    if traced.how == "record":  # the graph shows what is run, and cannot take the code's place
        options = FoldOptions(keep_class=True)
    read_as_batch_norms(traced)
    read_as_layers(traced)
    read_as_additions(traced)
    start = empty_plan(traced, options or FoldOptions(), refused, barred)
    plan = copied(start)
    _make_every_move(plan)
    orders = better_orders(start, plan)
    if orders.moves:
        plan = start
        make_moves(plan, orders.moves)
        _make_every_move(plan)
    left = {batch_norm.name for batch_norm in unfinished(plan)}
    plan.cut_short = [tuple(sorted(names)) for names in orders.cut_short if names & left]
    return _finished(plan)


@_on_the_cpu()
def continued(plan: Plan, moves: Sequence[Move], barred: Mapping[Move, str]) -> Plan:
    """Return a plan for the same model that begins with some moves, and has none that is barred."""
    result = replayed(plan, moves)
    result.barred = dict(barred)
    result.cut_short = plan.cut_short
    _make_every_move(result)
    return _finished(result)


@_on_the_cpu()
def replayed(plan: Plan, moves: Sequence[Move]) -> Plan:
    """Return a plan for the same model of these moves only, which begin those of `plan`."""
    result = empty_plan(plan.traced, plan.options, plan.refused, plan.barred)
    make_moves(result, moves)
    return result


def _finished(plan: Plan) -> Plan:
    if plan.options.partial and not plan.options.keep_class:
        for batch_norm in unfinished(plan):
            try_move(plan, batch_norm, "partly")
    plan.refusals = [
        Refusal(batch_norm.name, _reason(batch_norm))
        for batch_norm in plan.batch_norms
        if not (plan.removed | plan.rest.keys()).intersection(batch_norm.nodes)
    ]
    order = {batch_norm.name: i for i, batch_norm in enumerate(plan.batch_norms)}
    plan.steps.sort(key=lambda step: order[step.batch_norm])
    return plan


def empty_plan(
    traced: TracedModel,
    options: FoldOptions,
    refused: Mapping[str, str],
    barred: Mapping[Move, str] = MappingProxyType({}),
) -> Plan:
    """Return a plan in which every BatchNorm is still to go."""
    plan = Plan(traced, Producers(traced, options.bake_parametrizations), options)
    plan.refused, plan.barred = dict(refused), dict(barred)
    plan.batch_norms = find_batch_norms(traced)
    for batch_norm in plan.batch_norms:
        batch_norm.stays = refused.get(batch_norm.name)
    return plan


def _make_every_move(plan: Plan) -> None:
    """Let every BatchNorm go that can, in turn, until none can."""
    before = -1
    while len(plan.steps) > before:
        before = len(plan.steps)
        for way in WAYS:
            for batch_norm in unfinished(plan):
                try_move(plan, batch_norm, way)


def _reason(batch_norm: BatchNorm) -> str:
    problem = batch_norm.stays or batch_norm.problem
    if problem is not None:
        return f"it {problem}"
    reasons = batch_norm.reasons
    found = f"backward, it {reasons['backward']}; forward, it {reasons['forward']}"
    beside = len(batch_norm.nodes) == 1 and reasons["sideways"] != ALONE
    return f"{found}; sideways, it {reasons['sideways']}" if beside else found
