"""Sums of tensors, through any number of additions, as what they are: linear combinations.

Where the sum of `factor * tensor` is to be `scale * sum + shift`, each tensor takes the scale, and
the shift goes into one of them or into all. What a sum reads more than once counts once, with the
sum of its factors; where that is zero, nothing is asked of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch

from bncheck.convert.additions import factors_of_inputs
from bncheck.convert.constants import is_by_constants, number_factor, tensor_of
from bncheck.convert.labels import Blocked, LabelTable, scatter
from bncheck.convert.plan import Plan
from bncheck.convert.transparent import is_transparent
from bncheck.convert.whole import is_whole
from bncheck.graph import Kind, Node

_ROUNDING = 1e-12
"""What factors may add up to, relatively, where they would be zero but for rounding."""


class ShiftTo(Enum):
    """Which of the tensors that a sum reads take the shift."""

    FIRST = "first"
    LAST = "last"
    ALL = "all"


@dataclass(frozen=True)
class Term:
    """A tensor that a sum reads, with the factor it has there."""

    read: Node
    factor: float
    copies: tuple[Node, ...]
    """What is read, what that is a copy of, and so on."""

    @property
    def origin(self) -> Node:
        """Return the tensor that is no copy of another one."""
        return self.copies[-1]


@dataclass(frozen=True)
class Sum:
    """The additions, and multiplications by numbers, that make up one sum, and what they read."""

    nodes: tuple[Node, ...]
    terms: tuple[Term, ...]

    @property
    def passed(self) -> set[Node]:
        """What the sum is computed by, copies that it reads among it."""
        return set(self.nodes).union(*(term.copies for term in self.terms))

    def weight(self, origin: Node) -> float:
        """Return with which factor all copies of a tensor together are in the sum."""
        factors = [term.factor for term in self.terms if term.origin is origin]
        total = sum(factors)
        return 0.0 if abs(total) <= _ROUNDING * sum(map(abs, factors)) else total


def sum_of(plan: Plan, root: Node) -> Sum:
    """Return the sum that an addition of tensors computes; nothing else reads its parts."""
    nodes: list[Node] = []
    terms: list[Term] = []

    def expand(node: Node, factor: float) -> None:
        nodes.append(node)
        for source, own in zip(node.inputs, _factors(plan, node), strict=True):
            if source.shape == root.shape and _is_part(plan, source):
                expand(source, factor * own)
            else:
                terms.append(Term(source, factor * own, _copies(plan, source)))

    expand(root, 1.0)
    return Sum(tuple(nodes), tuple(terms))


def addition_of(plan: Plan, node: Node) -> Sum:
    """Return the sum of what one addition reads."""
    pairs = zip(node.inputs, _factors(plan, node), strict=True)
    return Sum((node,), tuple(Term(source, factor, (source,)) for source, factor in pairs))


def whole_sum(plan: Plan, node: Node) -> Sum:
    """Return the largest sum that an addition of tensors is a part of."""
    root = node
    while len(set(root.consumers)) == 1:
        above = root.consumers[0]
        if above.shape != root.shape or not (is_sum(plan, above) and _is_part(plan, root)):
            break
        root = above
    return sum_of(plan, root)


def is_sum(plan: Plan, node: Node) -> bool:
    """Tell whether a node adds or subtracts tensors, or multiplies one by a number."""
    call = plan.traced.calls[node]
    if not is_transparent(node, call):
        return False
    if is_by_constants(node, call):
        return number_factor(node, call) is not None
    return node.kind is Kind.ADD


def origin_of(plan: Plan, node: Node) -> Node:
    """Return the tensor that a tensor is a copy of, or itself."""
    return _copies(plan, node)[-1]


def _copies(plan: Plan, node: Node) -> tuple[Node, ...]:
    found = [node]
    while (
        node.kind is Kind.IDENTITY
        or node in plan.removed
        or is_whole(node, plan.traced.calls[node])
    ):
        node = node.inputs[0]
        found.append(node)
    return tuple(found)


def pull_sum(
    total: Sum, root: Node, labels: torch.Tensor, table: LabelTable, shift_to: ShiftTo
) -> list[tuple[Node, torch.Tensor]]:
    """Return what each tensor that a sum reads is to be, from what the sum is to be."""
    weights = {term.origin: total.weight(term.origin) for term in total.terms}
    counting = [origin for origin, weight in weights.items() if weight != 0]
    if not counting:
        raise Blocked("follows a difference of a tensor and itself")
    shares = _shares([weights[origin] for origin in counting], shift_to)
    taken = dict(zip(counting, shares, strict=True))
    found = []
    for term in total.terms:
        if term.origin not in taken:
            continue  # whatever it is, it cancels
        part = _shared_out(labels, taken[term.origin], table)
        shape = term.read.shape
        assert shape is not None
        assert root.shape is not None
        if shape != root.shape:
            size = torch.Size(shape).numel()
            places = torch.arange(size).view(shape).expand(root.shape)
            part = scatter(places, part, size).view(shape)
        found.append((term.read, part))
    return found


def _shares(weights: Sequence[float], shift_to: ShiftTo) -> list[float]:
    """Return what the shift is divided by in each tensor; 0 for those that take none."""
    if shift_to is ShiftTo.ALL:
        whole = sum(weights)
        if abs(whole) <= _ROUNDING * sum(map(abs, weights)):
            raise Blocked("follows a difference that a shift of both sides does not change")
        return [whole] * len(weights)
    chosen = 0 if shift_to is ShiftTo.FIRST else len(weights) - 1
    return [weight if i == chosen else 0.0 for i, weight in enumerate(weights)]


def _shared_out(labels: torch.Tensor, share: float, table: LabelTable) -> torch.Tensor:
    if share == 0.0:
        return table.scale_only(labels)
    if share == 1.0:
        return labels
    return table.variant(labels, ("share", share), lambda s, t: (s, t / share))


def _factors(plan: Plan, node: Node) -> list[float]:
    """Return the factor of each input of a node that `is_sum`."""
    call = plan.traced.calls[node]
    factor = number_factor(node, call)
    if factor is not None:
        source = tensor_of(node)
        return [factor if one is source else 0.0 for one in node.inputs]
    return factors_of_inputs(node, call)


def _is_part(plan: Plan, node: Node) -> bool:
    """Tell whether a node does no more than to add to one sum."""
    if not is_sum(plan, node) or plan.traced.calls[node].observed:
        return False
    try:
        _factors(plan, node)
    except Blocked:
        return False
    return len(set(node.consumers)) == 1
