"""Pushes a BatchNorm into the layers that produce its input.

A tensor `T` upstream becomes `scale * T + shift` per element. Whatever writes it must be able to
write that, whatever else reads it must want exactly that. Both demands spread until they rest on
layers and BatchNorms, or are blocked; the set that they reach goes together.
"""

from __future__ import annotations

import torch

from bncheck.convert.algebra import compose
from bncheck.convert.labels import OBSERVED, UNDETERMINED, Blocked, channels_of, merge, per_channel
from bncheck.convert.plan import Absorption, BatchNorm, Map, Move, Plan
from bncheck.convert.producers import describe_node, display_name
from bncheck.convert.sums import ShiftTo, Sum, is_sum, origin_of, pull_sum, sum_of, whole_sum
from bncheck.convert.transparent import is_transparent, pull, push
from bncheck.graph import PRODUCERS, Kind, Node


def push_backward(plan: Plan, batch_norm: BatchNorm) -> None:
    """Plan the removal of a BatchNorm and of those that must go with it; Blocked if impossible."""
    reasons = []
    copying = (False, True) if plan.options.duplicate_shared else (False,)
    for copies in copying:
        for shift_to in ShiftTo:
            demands = Demands(plan, shift_to, copies)
            try:
                demands.satisfy(batch_norm)
            except Blocked as reason:
                reasons.append(reason)
            else:
                return
            if not demands.summed:
                break  # there is no choice of what takes the shift
    raise reasons[0]


_Task = tuple[Node, Node | None]
"""A tensor of which something is wanted, and a reader of it; None stands for what writes it."""


class Demands:
    """What is wanted of tensors for a BatchNorm to go, and what that asks of others."""

    def __init__(self, plan: Plan, shift_to: ShiftTo, copies: bool) -> None:
        self.plan = plan
        self.shift_to = shift_to
        self.copies = copies
        self.shared: dict[Node, str] = {}
        self.wanted: dict[Node, torch.Tensor] = {}
        self.gone: list[BatchNorm] = []
        self.takers: dict[Node, torch.Tensor] = {}
        self.summed = False
        """Whether some sum was asked for a shift, which another of its terms might take."""
        self.added: set[Node] = set()
        """What is part of a sum of which something is wanted."""
        self.cancelled: set[Node] = set()
        """What is part of a sum in which what changes cancels, or copied for one."""
        self.quick: dict[_Task, None] = {}
        self.slow: dict[_Task, None] = {}

    def satisfy(self, batch_norm: BatchNorm) -> None:
        """Plan the removal of a BatchNorm with all that it asks for; Blocked if impossible."""
        self._remove(batch_norm)
        self._spread()
        changes, maps = self._changes()
        if not self.copies:
            changes = one_per_layer(self.plan, changes)
        passed = self.added.union(self.cancelled, self.wanted)
        own = frozenset(n for n in changes if self.copies and self._is_shared(n))
        self.plan.take(changes, maps, self.gone, "backward", passed, own)

    def _spread(self) -> None:
        """Follow all demands until they rest on layers and BatchNorms."""
        while self.quick or self.slow:
            tasks = self.quick or self.slow
            node, reader = next(iter(tasks))
            del tasks[node, reader]
            if reader is None:
                self._write(node)
            else:
                self._read(node, reader)

    def _changes(self) -> tuple[dict[Node, Absorption], dict[str, Map]]:
        """Return what layers take up on their outputs, and the new maps of other BatchNorms."""
        changes: dict[Node, Absorption] = {}
        maps: dict[str, Map] = {}
        table = self.plan.table
        for node, channels in self.takers.items():
            scale, shift = table.scales(channels), table.shifts(channels)
            below = self.plan.batch_norm_of(node)
            if below is None:
                changes[node] = Absorption("output", scale, shift)
            elif below in self.gone:
                raise Blocked(f"and {below.name} each need the other to stay")
            else:
                assert below.map is not None
                maps[below.name] = compose((scale, shift), below.map)
        return changes, maps

    def _is_shared(self, node: Node) -> bool:
        return next(self.plan.producers.other_users(node), None) is not None

    def _remove(self, batch_norm: BatchNorm) -> None:
        if batch_norm in self.gone:
            return
        barred = self.plan.barred.get(Move(batch_norm.name, "backward"))
        problem = barred or batch_norm.stays or batch_norm.problem
        if problem is not None:
            raise Blocked(f"shares its input with {batch_norm.name}, which {problem}")
        self.gone.append(batch_norm)
        channels = self.plan.labels(batch_norm)
        for node in batch_norm.nodes:
            source = node.inputs[0]
            if source.shape is None or len(source.shape) < 2:
                raise Blocked("has an input whose shape is not known")
            self._want(source, per_channel(channels, source.shape, 1))

    def _want(self, node: Node, labels: torch.Tensor) -> None:
        merged, more = merge(self.wanted.get(node), labels)
        if more:
            self.wanted[node] = merged
            for reader in dict.fromkeys(node.consumers):
                tasks = self.slow if self._passes_on(reader) else self.quick
                tasks[node, reader] = None
            tasks = self.slow if self._passes_on(node) else self.quick
            tasks[node, None] = None

    def _passes_on(self, node: Node) -> bool:
        """Tell whether a node hands demands on; all others end them, or block at once."""
        return node in self.plan.removed or is_transparent(node, self.plan.traced.calls[node])

    def _write(self, node: Node) -> None:
        """Make the operation that computes a tensor compute the wanted one."""
        call = self.plan.traced.calls[node]
        labels = self.wanted[node]
        if call.observed:
            raise Blocked(f"follows {describe_node(node)}, whose output {OBSERVED}")
        if node in self.plan.removed:
            self._want(node.inputs[0], labels)
        elif node.kind in PRODUCERS:
            self._write_layer(node, labels)
        elif node.kind is Kind.BATCH_NORM:
            self._write_batch_norm(node, labels)
        elif is_transparent(node, call):
            if node.kind is Kind.ADD and is_sum(self.plan, node):
                self._write_sum(node, labels)
                return
            parts = pull(node, self.plan.traced.calls, labels, self.plan.table)
            for source, part in zip(node.inputs, parts, strict=True):
                self._want(source, part)
        else:
            raise Blocked(f"follows {describe_node(node)}, which cannot take up a scale and shift")

    def _write_sum(self, node: Node, labels: torch.Tensor) -> None:
        self.summed = True
        total = self._sum_of(node)
        self.added.update(total.nodes)
        for source, part in pull_sum(total, node, labels, self.plan.table, self.shift_to):
            self._want(source, part)

    def _sum_of(self, node: Node) -> Sum:
        return sum_of(self.plan, node)

    def _write_batch_norm(self, node: Node, labels: torch.Tensor) -> None:
        below = self.plan.batch_norm_of(node)
        if below is None or below.problem or below.fixed:
            raise Blocked(f"follows {describe_node(node)}, which cannot take it up")
        self.plan.producers.require_own_parameters(below.nodes)
        channels = self._fill(node, labels, 1)
        self.takers[node] = channels
        for other in below.nodes:
            if other is not node:
                self.shared[other] = below.name
                assert other.shape is not None
                self._want(other, per_channel(channels, other.shape, 1))

    def _write_layer(self, node: Node, labels: torch.Tensor) -> None:
        producers = self.plan.producers
        producers.require_plain(node)
        try:
            channels = self._fill(node, labels, *producers.output_axes(node))
        except Blocked:
            raise Blocked(
                f"has channels that are not the output channels of {display_name(node)}"
            ) from None
        self.takers[node] = channels
        own, uses = self.plan.own_copy, [node, *producers.other_users(node)]
        if len(uses) > 1:
            folded = [use for use in uses if use in self.plan.absorptions]
            if any((use in own) != self.copies for use in folded):
                raise Blocked(f"shares {display_name(node)} with a use that was folded before")
        if self.copies:
            return
        for other in producers.other_users(node):
            self.shared[other] = display_name(node)
            producers.require_same_layer(node, other)
            assert other.shape is not None
            self._want(other, per_channel(channels, other.shape, *producers.output_axes(other)))

    def _fill(self, node: Node, labels: torch.Tensor, *axes: int) -> torch.Tensor:
        """Want of a whole channel what is wanted of a part of it."""
        channels = channels_of(labels, *axes)
        self._want(node, per_channel(channels, tuple(labels.shape), *axes))
        return channels

    def _read(self, node: Node, reader: Node) -> None:
        """Let another reader of a changed tensor come along, or be blocked by it."""
        batch_norm = self.plan.batch_norm_of(reader)
        if batch_norm is not None:
            try:
                self._remove(batch_norm)
            except Blocked:
                raise Blocked(self._read_too(node, reader)) from None
            return
        call = self.plan.traced.calls[reader]
        if reader in self.plan.removed:
            self._want(reader, self.wanted[node])
            return
        if reader in self.added or (reader.kind is Kind.ADD and reader in self.wanted):
            return  # `_write_sum` has asked for this, or will
        if is_sum(self.plan, reader) and self._cancels(node, reader):
            return
        if reader.kind is Kind.ADD or not is_transparent(reader, call):
            raise Blocked(self._read_too(node, reader))
        inputs = [self.wanted.get(source) for source in reader.inputs]
        try:
            labels = push(reader, self.plan.traced.calls, inputs, self.plan.table)
        except Blocked:
            if node in self.shared or len(node.consumers) > 1:
                raise Blocked(self._read_too(node, reader)) from None
            raise
        if bool((labels != UNDETERMINED).any()):
            self._want(reader, labels)

    def _cancels(self, node: Node, reader: Node) -> bool:
        """Tell whether a sum that reads a tensor is the same whatever that tensor is."""
        total = whole_sum(self.plan, reader)
        if total.weight(origin_of(self.plan, node)) != 0:
            return False
        self.cancelled.update(total.passed)
        return True

    def _read_too(self, node: Node, reader: Node) -> str:
        if node in self.shared:
            return (
                f"follows {self.shared[node]}, whose parameters are used more than once, with "
                f"{describe_node(reader)} after another use"
            )
        return f"follows {describe_node(node)}, which {describe_node(reader)} also reads"


def one_per_layer(plan: Plan, changes: dict[Node, Absorption]) -> dict[Node, Absorption]:
    """Keep one node for each layer that several nodes use; all of them want the same."""
    kept: dict[Node, Absorption] = {}
    covered: set[Node] = set()
    order = {node: index for index, node in enumerate(plan.traced.graph.nodes)}
    for node in sorted(changes, key=order.__getitem__):
        if node not in covered:
            kept[node] = changes[node]
            covered.update(plan.producers.other_users(node))
    return kept
