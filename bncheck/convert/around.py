"""Moves a BatchNorm into the layers on both sides of it, where neither side can take it alone.

A tensor `T` becomes `scale * T + shift` per element, as in `backward`, but before the BatchNorm
and behind it, and readers may undo that on their input as well. In `x = f(x) + BatchNorm(g(x))`,
say, the scale cannot go forward, for the other summand has none. But `x` may be kept divided by
it throughout: what writes `x` divides, what reads it multiplies.
"""

from __future__ import annotations

import torch

from bncheck.convert.additions import factors_of
from bncheck.convert.algebra import compose
from bncheck.convert.backward import Demands, one_per_layer
from bncheck.convert.labels import (
    IDENTITY,
    OBSERVED,
    UNDETERMINED,
    Blocked,
    channels_of,
    distinct,
    merge,
    per_channel,
)
from bncheck.convert.plan import Absorption, BatchNorm, Map, Plan
from bncheck.convert.producers import describe_node, display_name
from bncheck.convert.sums import ShiftTo, Sum, addition_of
from bncheck.convert.transparent import is_transparent
from bncheck.graph import PRODUCERS, Kind, Node

FARTHEST = 4.0
"""How many times the size of its values a tensor may be shifted: what is added to them, to be
taken off again elsewhere, costs digits."""


def push_around(plan: Plan, batch_norm: BatchNorm) -> None:
    """Plan the removal of a BatchNorm into layers before and after it; Blocked if impossible."""
    assert batch_norm.map is not None
    scale, shift = batch_norm.map
    if bool((scale.abs() * _largest_factor(plan) < 1).any()):
        raise Blocked("has a scale that is zero, or so small that nothing can be divided by it")
    one, nothing = torch.ones_like(scale), torch.zeros_like(shift)
    # What is wanted of its input and of its output, as (scale, shift).
    choices = [((one, nothing), (1 / scale, -shift / scale))]
    if _is_near(plan, batch_norm, shift / scale):
        choices.append(((one, shift / scale), (1 / scale, nothing)))
    reasons = []
    for before, behind in choices:
        for shift_to in (ShiftTo.FIRST, ShiftTo.LAST):
            try:
                _Around(plan, shift_to, batch_norm).carry_out(before, behind)
            except Blocked as reason:
                reasons.append(reason)
            else:
                return
    raise reasons[0]


def _largest_factor(plan: Plan) -> float:
    """Return by how much values may be multiplied without a risk that they overflow."""
    tensors = plan.traced.tensors.values()
    return 16.0 if any(tensor.dtype is torch.float16 for tensor in tensors) else 1e6


def _is_near(plan: Plan, batch_norm: BatchNorm, shift: torch.Tensor) -> bool:
    """Tell whether a shift of the input is no larger than what is added and taken off for free."""
    names = batch_norm.nodes[0].parameters
    found = [plan.producers.find(names.get(role, "")) for role in ("running_mean", "running_var")]
    if found[0] is None or found[1] is None:
        return False
    mean, variance = (tensor.detach().double().cpu() for tensor in found if tensor is not None)
    size = (mean.square() + variance).sqrt().max()
    return bool((shift.abs() <= FARTHEST * size).all())


class _Around(Demands):
    """Demands on tensors before and behind one BatchNorm."""

    def __init__(self, plan: Plan, shift_to: ShiftTo, batch_norm: BatchNorm) -> None:
        super().__init__(plan, shift_to, copies=False)
        self.batch_norm = batch_norm
        self.inputs: dict[Node, tuple[Node, tuple[int, ...]]] = {}
        """Layers and BatchNorms that undo on their input what was done to it: the tensor and
        the axes of its channels."""

    def carry_out(self, before: Map, behind: Map) -> None:
        """Want these maps of the BatchNorm's input and output, and all that follows from it."""
        self.gone.append(self.batch_norm)
        for maps, of_input in ((before, True), (behind, False)):
            labels = self._labels(maps)
            for node in self.batch_norm.nodes:
                tensor = node.inputs[0] if of_input else node
                if tensor.shape is None or len(tensor.shape) < 2:
                    raise Blocked("has an input or output whose shape is not known")
                self._want(tensor, per_channel(labels, tensor.shape, 1))
        self._spread()
        self._require_whole_sums()
        for node, labels in self.wanted.items():
            if self.plan.traced.calls[node].observed and bool((distinct(labels) > IDENTITY).any()):
                raise Blocked(f"reaches {describe_node(node)}, whose output {OBSERVED}")
        changes, maps_by_name = self._changes()
        changes = one_per_layer(self.plan, changes)
        for node, source in self.inputs.items():
            undone = self._inverse(self._channels(*source))
            below = self.plan.batch_norm_of(node)
            if below is not None:
                assert below.map is not None
                outer = maps_by_name.get(below.name, below.map)
                maps_by_name[below.name] = compose(outer, undone)
            elif node in changes:
                raise Blocked(f"would have to change {display_name(node)} on both sides")
            else:
                changes[node] = Absorption("input", *undone)
        self.plan.take(changes, maps_by_name, self.gone, "around", frozenset(self.wanted))

    def _labels(self, maps: Map) -> torch.Tensor:
        scale, shift = maps
        if bool((scale == 1).all()) and not bool(shift.any()):
            return torch.full(scale.shape, IDENTITY)
        return self.plan.table.add(scale, shift)

    def _channels(self, node: Node, axes: tuple[int, ...]) -> torch.Tensor:
        """Return what is wanted of each channel, when all is known; Blocked where a part differs.

        Of what nothing is wanted (the other part of a concat, say) stays as it is.
        """
        return channels_of(self.wanted[node].clamp(min=IDENTITY), *axes)

    def _require_whole_sums(self) -> None:
        for node in self.wanted:
            if self._is_sum(node):
                for tensor in (*node.inputs, node):
                    if tensor in self.wanted:
                        self._channels(tensor, (1,))

    def _inverse(self, channels: torch.Tensor) -> Map:
        scale, shift = self.plan.table.scales(channels), self.plan.table.shifts(channels)
        if bool((scale == 0).any()):
            raise Blocked("asks for a scale of zero")
        return 1 / scale, -shift / scale

    def _want(self, node: Node, labels: torch.Tensor) -> None:
        if not bool((distinct(labels) > IDENTITY).any()):  # as it was: nothing follows
            self.wanted[node], _ = merge(self.wanted.get(node), labels)
            return
        super()._want(node, labels)

    def _write(self, node: Node) -> None:
        if node in self.batch_norm.nodes:
            return
        if self._is_sum(node):
            self._balance(node)
            return
        super()._write(node)

    def _read(self, node: Node, reader: Node) -> None:
        if reader in self.batch_norm.nodes:
            return
        below = self.plan.batch_norm_of(reader)
        call = self.plan.traced.calls[reader]
        if reader in self.plan.removed:
            self._want(reader, self.wanted[node])
        elif below is not None:
            if below.problem or below.stays or below.fixed or len(below.nodes) > 1:
                raise Blocked(f"reaches {below.name}, which cannot take it up")
            self.plan.producers.require_own_parameters(below.nodes)
            self.inputs[reader] = node, (1,)
        elif reader.kind in PRODUCERS:
            self._read_by_layer(node, reader)
        elif self._is_sum(reader):
            self._balance(reader)
        elif is_transparent(reader, call) and reader.kind is not Kind.ADD:
            super()._read(node, reader)
        else:
            raise Blocked(
                f"reaches {describe_node(reader)}, which cannot take up a scale and shift"
            )

    def _read_by_layer(self, node: Node, reader: Node) -> None:
        producers = self.plan.producers
        producers.require_plain(reader)
        if len(reader.inputs) != 1 or next(producers.other_users(reader), None) is not None:
            raise Blocked(f"reaches {display_name(reader)}, whose parameters have other users")
        axes = producers.input_axes(reader)
        channels = channels_of(self.wanted[node], *axes)
        if bool((self.plan.table.shifts(channels) != 0).any()):
            producers.require_no_border(reader)
        self.inputs[reader] = node, axes

    def _sum_of(self, node: Node) -> Sum:
        return addition_of(self.plan, node)  # what is within a larger one has demands of its own

    def _cancels(self, node: Node, reader: Node) -> bool:
        return False

    def _is_sum(self, node: Node) -> bool:
        """Tell whether a node adds two tensors of one shape."""
        if node.kind is not Kind.ADD or len(set(node.inputs)) != 2:
            return False
        call = self.plan.traced.calls[node]
        same = all(source.shape == node.shape for source in node.inputs)
        return same and is_transparent(node, call) and factors_of(call) in {(1.0, 1.0), (1.0, -1.0)}

    def _balance(self, node: Node) -> None:
        """Make what is wanted of a sum and of its summands agree."""
        one, two = node.inputs
        tensors = (one, two, node)
        sign = -1.0 if self.plan.traced.calls[node].call.name == "sub" else 1.0
        known = [tensor in self.wanted for tensor in tensors]
        if not any(known):
            return
        maps = [self._map(tensor) for tensor in tensors]
        scale = next(found for found, is_known in zip(maps, known, strict=True) if is_known)[0]
        first, second, total = (shift for _, shift in maps)
        match known:
            case [True, True, True]:
                alike = all(torch.allclose(found[0], scale, rtol=1e-14) for found in maps)
                if not alike or not torch.allclose(total, first + sign * second, rtol=1e-12):
                    raise Blocked("asks for different scales of the summands of one sum")
                return
            case [True, True, False]:
                if not torch.allclose(maps[1][0], scale, rtol=1e-14):
                    raise Blocked("asks for different scales of the summands of one sum")
                total = first + sign * second
            case [_, False, True]:
                if known[0] or self.shift_to is not ShiftTo.FIRST:
                    second = sign * (total - first)
                else:
                    first = total
            case [False, True, True]:
                first = total - sign * second
            case _ if bool((scale == 1).all()):  # the other summand makes up for the shift
                first, second = (first, -sign * first) if known[0] else (-sign * second, second)
            case _:
                total = first + sign * second
        for tensor, is_known, shift in zip(tensors, known, (first, second, total), strict=True):
            if not is_known:
                assert tensor.shape is not None
                labels = self._labels((scale.reshape(-1), shift.expand(scale.shape).reshape(-1)))
                self._want(tensor, labels.view(scale.shape).expand(tensor.shape))

    def _map(self, node: Node) -> Map:
        """Return what is wanted of a tensor per channel, shaped to go with it; else zeros."""
        assert node.shape is not None
        shape = [1] * len(node.shape)
        if node not in self.wanted:
            return torch.ones(shape).double(), torch.zeros(shape).double()
        channels = channels_of(self.wanted[node], 1)
        if bool((channels == UNDETERMINED).any()):
            raise Blocked("asks for a scale of a part of a sum")
        shape[1] = -1
        table = self.plan.table
        return table.scales(channels).view(shape), table.shifts(channels).view(shape)
