"""How per-channel affine maps pass through pooling, and through means and sums over axes.

An average of zeros and of what a shift reaches takes a part of that shift, so that a larger one
before it makes up for the zeros, be they padding of its own or of an operation before. A maximum
takes a negative scale only where each window sees one element, so that it moves data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from bncheck.convert.labels import UNDETERMINED, Blocked, LabelTable, distinct, uniform
from bncheck.convert.movement import drops_axes_by_size, move, pull_movement, shape_of
from bncheck.convert.padding import constant_padding
from bncheck.graph import Kind, Node
from bncheck.model.traced_call import TracedCall

Calls = Mapping[Node, TracedCall]
_REDUCTIONS = frozenset({"mean", "sum", "amax", "amin"})
_ZEROS = "meets average pooling that counts zero padding, which a shift cannot pass"


def pull_pooling(node: Node, calls: Calls, labels: torch.Tensor, table: LabelTable) -> torch.Tensor:
    """Return the labelling of what is pooled from that of the result."""
    call, source = calls[node], node.inputs[0]
    if _gives_places(call):
        raise Blocked("follows the places of what is largest, which have no scale")
    if _moves_negative(node, call, labels, table):
        return pull_movement(node, call, labels)[0]
    axes = _pooled_axes(node, call)
    reduced = _pooled(call, _aligned(node, call, labels), axes, table)
    inside = _inside_of_padding(node, calls) if _has_shift(reduced, table) else None
    share = _share_of_input(node, call, axes, reduced, table, inside)
    reduced = table.variant(
        reduced, ("fill", share), lambda s, t: (s, t / share), ("empty", share)
    ).expand(shape_of(source))
    return reduced if inside is None else torch.where(inside, reduced, table.scale_only(reduced))


def push_pooling(node: Node, calls: Calls, labels: torch.Tensor, table: LabelTable) -> torch.Tensor:
    """Return the labelling of the result from that of what is pooled."""
    call = calls[node]
    if not _gives_places(call) and _moves_negative(node, call, labels, table):
        return move(call, [labels])
    axes = _pooled_axes(node, call)
    inside = _inside_of_padding(node, calls) if _has_shift(labels, table) else None
    within = labels if inside is None else torch.where(inside, labels, UNDETERMINED)
    reduced = _pooled(call, within, axes, table)
    if inside is not None:
        wrong = ~inside & (labels != UNDETERMINED) & (labels != table.scale_only(reduced))
        if bool(wrong.any()):
            raise Blocked(_ZEROS)
    if _gives_places(call):  # which stay as long as the order does
        if bool((table.scales(distinct(reduced)) == 0).any()):
            raise Blocked("meets the places of what is largest, which a scale of zero cannot pass")
        return torch.tensor(UNDETERMINED).expand(shape_of(node))
    share = _share_of_input(node, call, axes, reduced, table, inside)
    reduced = table.variant(reduced, ("empty", share), lambda s, t: (s, t * share), ("fill", share))
    if call.call.name in _REDUCTIONS and len(shape_of(node)) < reduced.dim():
        reduced = reduced.squeeze(axes)
    return reduced.expand(shape_of(node))


def spatial_axes(node: Node, call: TracedCall) -> tuple[int, ...]:
    """Return the axes that a pooling or resampling layer works on."""
    rank = len(shape_of(node.inputs[0]))
    digits = [c for c in call.call.name if c.isdigit()]
    count = int(digits[0]) if digits else rank - 2
    return tuple(range(rank - count, rank))


def counts_elements(node: Node, calls: Calls) -> bool:
    """Tell whether what a pooling layer does to a map rests on how many elements it sees."""
    call = calls[node]
    if call.call.name == "sum" or _counts_padding(call):
        return True
    if _takes_largest(call):
        return _sees_one_element(node, call)
    return any(step.kind is Kind.PADDING for step in _before(node, calls))


def is_averaged(node: Node, calls: Calls) -> bool:
    """Tell whether all that reads a padded tensor are averages, which may make up for zeros."""
    return bool(node.consumers) and all(
        (reader.kind is Kind.POOLING and not _takes_largest(calls[reader]))
        or (_leads_on(reader, calls) and is_averaged(reader, calls))
        for reader in node.consumers
    )


def _takes_largest(call: TracedCall) -> bool:
    return "max" in call.call.name or call.call.name == "amin"


def _gives_places(call: TracedCall) -> bool:
    """Tell whether a call gives where the largest values are, not the values."""
    return call.arguments.get("member") == 1


def _has_shift(labels: torch.Tensor, table: LabelTable) -> bool:
    return bool((table.shifts(distinct(labels)) != 0).any())


def _moves_negative(node: Node, call: TracedCall, labels: torch.Tensor, table: LabelTable) -> bool:
    negative = _takes_largest(call) and bool((table.scales(distinct(labels)) < 0).any())
    return negative and _sees_one_element(node, call)


def _sees_one_element(node: Node, call: TracedCall) -> bool:
    """Tell whether each window has one element: the largest one is then the smallest one too."""
    axes, shape = _pooled_axes(node, call), shape_of(node.inputs[0])
    sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    places = torch.arange(math.prod(sizes)).view(sizes).double()
    return torch.equal(call.run([places]), -call.run([-places]))


def _pooled_axes(node: Node, call: TracedCall) -> tuple[int, ...]:
    rank = len(shape_of(node.inputs[0]))
    if call.call.name not in _REDUCTIONS:
        return spatial_axes(node, call)
    axes: Any = call.arguments.get("dim")
    if axes is None or axes in ((), []):
        return tuple(range(rank))
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    return tuple(axis % rank for axis in axes)


def _aligned(node: Node, call: TracedCall, labels: torch.Tensor) -> torch.Tensor:
    """Return the output's labels with reduced axes put back as axes of size 1."""
    if call.call.name in _REDUCTIONS and len(shape_of(node)) < len(shape_of(node.inputs[0])):
        for axis in sorted(_pooled_axes(node, call)):
            labels = labels.unsqueeze(axis)
    return labels


def _counts_padding(call: TracedCall) -> bool:
    """Tell whether an average is taken of padding too, or divided by a number of its own."""
    padding = call.arguments.get("padding", 0)
    padded = any(padding) if isinstance(padding, tuple | list) else bool(padding)
    counts = call.arguments.get("count_include_pad", True)
    return call.call.name.startswith("avg_pool") and bool(
        (padded and counts) or call.arguments.get("divisor_override")
    )


def _before(node: Node, calls: Calls) -> list[Node]:
    """Return what moves or pads with zeros what is pooled, the last first."""
    found = []
    source = node.inputs[0]
    while _leads_on(source, calls):
        found.append(source)
        source = source.inputs[0]
    return found


def _leads_on(node: Node, calls: Calls) -> bool:
    call = calls[node]
    if len(node.inputs) != 1 or node.shape is None or node.inputs[0].shape is None:
        return False
    if node.kind is Kind.PADDING:
        constant = constant_padding(call)
        return constant is not None and constant[1] == 0
    plain = node.kind is Kind.IDENTITY or (
        node.kind is Kind.RESHAPE and call.call.name != "setitem"
    )
    return plain and not drops_axes_by_size(call)


def _inside_of_padding(node: Node, calls: Calls) -> torch.Tensor | None:
    """Return where what is pooled is no zero of a padding before it; None without such padding."""
    steps = _before(node, calls)
    if _takes_largest(calls[node]) or not any(step.kind is Kind.PADDING for step in steps):
        return None
    value = torch.ones(shape_of(steps[-1].inputs[0]))
    for step in reversed(steps):
        value = calls[step].run([value])
    return value == 1


def _share_of_input(
    node: Node,
    call: TracedCall,
    axes: tuple[int, ...],
    labels: torch.Tensor,
    table: LabelTable,
    inside: torch.Tensor | None,
) -> float:
    """Return what pooling makes of a one everywhere, where these maps have a shift."""
    shape = shape_of(node.inputs[0])
    if not _has_shift(labels, table):
        return 1.0
    if inside is None:
        if call.call.name == "sum":
            return float(math.prod(shape[axis] for axis in axes))
        if not _counts_padding(call):
            return 1.0
        inside = torch.ones([size if axis in axes else 1 for axis, size in enumerate(shape)])
    shares: list[float] = call.run([inside.double()]).reshape(-1).tolist()
    if min(shares) <= 0 or max(shares) > min(shares) * (1 + 1e-12):
        raise Blocked(_ZEROS)
    return shares[0]


def _pooled(
    call: TracedCall, labels: torch.Tensor, axes: tuple[int, ...], table: LabelTable
) -> torch.Tensor:
    reduced = uniform(labels, axes)
    present = distinct(reduced)
    if _takes_largest(call) and bool((table.scales(present) < 0).any()):
        raise Blocked("meets max pooling, which a negative scale cannot pass")
    return reduced
