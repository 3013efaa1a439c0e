"""The order of moves that removes most, where one BatchNorm's way out closes another's.

A BatchNorm that another went into may be stuck with both maps, where the other could have taken it
in. Moves depend on each other only within a region: tensors with nothing between them that
computes something of its own. In a region where the plain order leaves a BatchNorm that is not
hopeless by itself, every order is tried, as long as there are not too many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from bncheck.convert.around import push_around
from bncheck.convert.backward import push_backward
from bncheck.convert.forward import push_forward
from bncheck.convert.labels import Blocked
from bncheck.convert.partial import push_partly
from bncheck.convert.plan import BatchNorm, Move, Plan, unfinished
from bncheck.convert.sideways import merge_sideways
from bncheck.convert.transparent import is_transparent
from bncheck.graph import Kind, Node

WAYS = {
    "backward": push_backward,
    "forward": push_forward,
    "sideways": merge_sideways,
    "around": push_around,
}
_ALL_WAYS = {**WAYS, "partly": push_partly}


@dataclass(frozen=True)
class Orders:
    """What came of trying orders of moves."""

    moves: tuple[Move, ...]
    """Those to begin with, for more to go; none where the plain order is best."""
    cut_short: tuple[frozenset[str], ...]
    """The BatchNorms of each region in which not every order was tried."""


@dataclass(frozen=True)
class _Region:
    """BatchNorms between which nothing computes anything of its own."""

    names: set[str]
    elements: int
    """Of all tensors of the region together: what trying one move costs goes with it."""


_MOST_ELEMENTS = 5_000_000_000
"""Elements that the moves tried in one region may go through: some seconds."""


def try_move(plan: Plan, batch_norm: BatchNorm, way: str) -> bool:
    """Make a move, or note why it is impossible."""
    move = Move(batch_norm.name, way)
    if move in plan.barred:
        batch_norm.reasons[way] = plan.barred[move]
        return False
    try:
        _ALL_WAYS[way](plan, batch_norm)
    except Blocked as reason:
        batch_norm.reasons[way] = str(reason)
        return False
    plan.moves.append(move)
    return True


def make_moves(plan: Plan, moves: Sequence[Move]) -> None:
    """Make moves that were found possible in this order."""
    by_name = {batch_norm.name: batch_norm for batch_norm in plan.batch_norms}
    for move in moves:
        try_move(plan, by_name[move.batch_norm], move.way)


def better_orders(start: Plan, done: Plan) -> Orders:
    """Return the moves to begin with, for more to go than in `done`.

    `start` is the plan of the same model before any move.
    """
    gone = {step.batch_norm for step in done.steps}
    moves: tuple[Move, ...] = ()
    cut_short: tuple[frozenset[str], ...] = ()
    for region in _regions(start):
        names = region.names
        left = {b.name for b in unfinished(done)} & names
        if left and gone & names:
            found, complete = _best_order(start, region, len(gone & names))
            moves += found
            if not complete:
                cut_short += (frozenset(names),)
    return Orders(moves, cut_short)


def _best_order(start: Plan, region: _Region, found: int) -> tuple[tuple[Move, ...], bool]:
    """Return the moves within a region that remove most, where that is more than `found`.

    The second result tells whether every order was tried.
    """
    names = region.names
    attempts = min(start.options.attempts, _MOST_ELEMENTS // max(1, region.elements))
    best: tuple[Move, ...] = ()
    seen = set()
    stack: list[tuple[Plan, tuple[Move, ...]]] = [(start, ())]
    while stack:
        plan, moves = stack.pop()
        state = frozenset(plan.steps)
        left = [b.name for b in unfinished(plan) if b.name in names]
        removed = sum(step.batch_norm in names for step in plan.steps)
        if removed > found:
            best, found = moves, removed
        if state in seen or removed + len(left) <= found:
            continue
        seen.add(state)
        for name in left:
            for way in WAYS:
                attempts -= 1
                if attempts < 0:
                    return best, False
                trial = copied(plan)
                batch_norm = next(b for b in trial.batch_norms if b.name == name)
                if try_move(trial, batch_norm, way):
                    stack.append((trial, (*moves, Move(name, way))))
    return best, True


def copied(plan: Plan) -> Plan:
    """Return a plan that moves can be made on without changing this one."""
    return replace(
        plan,
        batch_norms=[replace(b, reasons=dict(b.reasons)) for b in plan.batch_norms],
        removed=set(plan.removed),
        absorptions={node: list(changes) for node, changes in plan.absorptions.items()},
        folded=dict(plan.folded),
        own_copy=set(plan.own_copy),
        baked=set(plan.baked),
        rest=dict(plan.rest),
        kept=dict(plan.kept),
        passed=dict(plan.passed),
        changed=set(plan.changed),
        affine=dict(plan.affine),
        steps=list(plan.steps),
        moves=list(plan.moves),
        refusals=list(plan.refusals),
        cut_short=list(plan.cut_short),
    )


def _regions(plan: Plan) -> Iterator[_Region]:
    """Yield each region that has several BatchNorms."""
    parent: dict[Node, Node] = {}

    def find(node: Node) -> Node:
        while node in parent:
            parent[node] = parent.get(parent[node], parent[node])
            node = parent[node]
        return node

    def join(one: Node, other: Node) -> None:
        if find(one) is not find(other):
            parent[find(one)] = find(other)

    for node in plan.traced.graph.nodes:
        if node.kind is Kind.BATCH_NORM or is_transparent(node, plan.traced.calls[node]):
            for source in node.inputs:
                join(node, source)
        for other in plan.producers.other_users(node):
            join(node, other)
            for one, its in zip(node.inputs, other.inputs, strict=False):
                join(one, its)
    found: dict[Node, set[str]] = {}
    for batch_norm in plan.batch_norms:
        for node in batch_norm.nodes:
            join(node, batch_norm.nodes[0])
        if batch_norm.nodes:
            found.setdefault(find(batch_norm.nodes[0]), set()).add(batch_norm.name)
    elements: Counter[Node] = Counter()
    for node in plan.traced.graph.nodes:
        elements[find(node)] += prod(node.shape or (0,))
    for root, names in found.items():
        if len(names) > 1:
            yield _Region(names, elements[root])
