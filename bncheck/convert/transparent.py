"""How per-channel affine maps pass through operations that compute nothing of their own.

If `op(x) = y`, an operation is transparent when `op(scale * x + shift) = scale' * y + shift'` for
maps that are related element by element. `pull` goes from the output's labels to the inputs',
`push` from the inputs' to the output's. Both raise `Blocked` where the maps cannot pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bncheck.convert.additions import factors_of
from bncheck.convert.choices import is_choice, pull_choice, push_choice
from bncheck.convert.constants import is_by_constants, pull_constants, push_constants
from bncheck.convert.extremes import is_extreme, pull_extreme, push_extreme
from bncheck.convert.labels import (
    IDENTITY,
    UNDETERMINED,
    Blocked,
    LabelTable,
    distinct,
    squeezed,
    uniform,
)
from bncheck.convert.movement import move, pull_movement, shape_of
from bncheck.convert.padding import constant_padding, pull_padding, push_padding
from bncheck.convert.pooling import Calls, is_averaged, pull_pooling, push_pooling, spatial_axes
from bncheck.graph import PRODUCERS, Kind, Node
from bncheck.model.operations import STACKS, kwarg_or_position
from bncheck.model.traced_call import TracedCall

HOMOGENEOUS = frozenset({"relu", "leaky_relu", "prelu"})
"""Activations with `f(scale * x) = scale * f(x)` for every positive scale."""
_NEAREST = ("nearest", "nearest-exact")


def is_transparent(node: Node, call: TracedCall) -> bool:
    """Tell whether maps may pass through this node at all."""
    if node.kind in PRODUCERS:
        return False
    if node.shape is None or any(i.shape is None for i in node.inputs) or not node.inputs:
        return False
    if len(node.inputs) > 1 and not (
        node.kind in {Kind.CONCAT, Kind.ADD}
        or call.call.name in STACKS
        or is_by_constants(node, call)
        or is_extreme(node, call)
        or is_choice(node, call)
    ):
        return False  # what it does depends on values, such as an index that was computed
    if node.kind in {
        Kind.IDENTITY, Kind.RESHAPE, Kind.CONCAT, Kind.ADD, Kind.PADDING, Kind.UPSAMPLING
    }:  # fmt: skip
        return call.call.name != "setitem"
    if node.kind is Kind.POOLING:
        return not call.call.name.startswith("lp_pool")
    return (
        call.call.name in HOMOGENEOUS
        or is_by_constants(node, call)
        or is_extreme(node, call)
        or is_choice(node, call)
    )


def pull(node: Node, calls: Calls, labels: torch.Tensor, table: LabelTable) -> list[torch.Tensor]:
    """Return the labelling of each input from the output's, of anything but a sum of tensors."""
    call = calls[node]
    match node.kind:
        case Kind.IDENTITY:
            return [labels]
        case Kind.CONCAT if isinstance(call.arguments.get("dim", 0), int):
            return _pull_concatenation(node, call, labels)
        case _ if is_by_constants(node, call):
            return pull_constants(node, call, labels, table)
        case _ if is_extreme(node, call):
            return pull_extreme(call, labels, table)
        case _ if is_choice(node, call):
            return pull_choice(node, labels)
        case Kind.POOLING:
            return [pull_pooling(node, calls, labels, table)]
        case Kind.PADDING if constant_padding(call) is not None:
            return [pull_padding(node, call, labels, table)]
        case Kind.UPSAMPLING if not _is_nearest(call):
            reduced = uniform(labels, spatial_axes(node, call))
            return [reduced.expand(shape_of(node.inputs[0]))]
        case _ if call.call.name in HOMOGENEOUS:
            _require_positive(labels, table, call.call.name)
            return [labels]
    return pull_movement(node, call, labels)


def push(
    node: Node, calls: Calls, labels: Sequence[torch.Tensor | None], table: LabelTable
) -> torch.Tensor:
    """Return the output's labelling from the inputs'; None stands for undetermined throughout."""
    call = calls[node]
    given = [
        torch.tensor(UNDETERMINED).expand(shape_of(source)) if one is None else one
        for one, source in zip(labels, node.inputs, strict=True)
    ]
    match node.kind:
        case Kind.IDENTITY:
            return given[0]
        case Kind.CONCAT if isinstance(call.arguments.get("dim", 0), int) and all(
            one.dim() == len(shape_of(node)) for one in given
        ):
            return _push_concatenation(node, call, given)
        case _ if is_by_constants(node, call):
            return push_constants(node, call, given, table)
        case _ if is_extreme(node, call):
            return push_extreme(call, given, table)
        case _ if is_choice(node, call):
            return push_choice(given)
        case Kind.ADD:
            return _push_addition(node, call, given, table)
        case Kind.POOLING:
            return push_pooling(node, calls, given[0], table)
        case Kind.PADDING if constant_padding(call) is not None:
            return push_padding(node, call, given[0], table, is_averaged(node, calls))
        case Kind.UPSAMPLING if not _is_nearest(call):
            return uniform(given[0], spatial_axes(node, call)).expand(shape_of(node))
        case _ if call.call.name in HOMOGENEOUS:
            _require_positive(given[0], table, call.call.name)
            return given[0]
    return move(call, given)


def _pull_concatenation(node: Node, call: TracedCall, labels: torch.Tensor) -> list[torch.Tensor]:
    axis: Any = call.arguments.get("dim", 0)
    found, start = [], 0
    for source in node.inputs:
        size = shape_of(source)[axis]
        found.append(labels.narrow(axis, start, size))
        start += size
    return found


def _push_concatenation(
    node: Node, call: TracedCall, given: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Concatenate labels without spelling out what is the same all along an axis."""
    shape = shape_of(node)
    axis: Any = call.arguments.get("dim", 0)
    small = [squeezed(one) for one in given]
    for other in range(len(shape)):
        alike = all(one.shape[other] == 1 for one in small)
        if alike and other != axis % len(shape):
            given = [one.narrow(other, 0, 1) for one in given]
    return torch.cat(list(given), axis).expand(shape)


def _push_addition(
    node: Node, call: TracedCall, labels: list[torch.Tensor], table: LabelTable
) -> torch.Tensor:
    first, second = (one.expand(shape_of(node)).clamp(min=IDENTITY) for one in labels)
    if not torch.equal(table.scales(first), table.scales(second)):
        raise Blocked("goes into an addition whose other summand has another scale")
    own, others = factors_of(call)
    width = len(table.scale)
    pairs = first * width + second
    present = distinct(pairs)
    one, other = present // width, present % width
    shift = own * table.shift[one] + others * table.shift[other]
    return table.add(table.scale[one], shift)[torch.searchsorted(present, pairs)]


def _require_positive(labels: torch.Tensor, table: LabelTable, name: str) -> None:
    present = distinct(labels)
    if bool((table.shifts(present) != 0).any()):
        raise Blocked(f"meets {name}, which a shift cannot pass")
    if bool((table.scales(present) < 0).any()):
        raise Blocked(f"meets {name}, which a negative scale cannot pass")


def _is_nearest(call: TracedCall) -> bool:
    if "nearest" in call.call.name:
        return True
    mode = kwarg_or_position(call.source, "mode") or "nearest"
    if call.source.op == "call_module":
        module: Any = call.source.graph.owning_module
        return module is not None and module.get_submodule(str(call.source.target)).mode in _NEAREST
    return call.call.name == "interpolate" and mode in _NEAREST
