"""How per-channel affine maps pass through operations that compute nothing of their own.

If `op(x) = y`, an operation is transparent when `op(scale * x + shift) = scale' * y + shift'` for
maps that are related element by element. `pull` goes from the output's labels to the inputs',
`push` from the inputs' to the output's. Both raise `Blocked` where the maps cannot pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from bncheck.convert.constants import is_by_constants, pull_constants, push_constants
from bncheck.convert.labels import (
    IDENTITY,
    UNDETERMINED,
    Blocked,
    LabelTable,
    distinct,
    scatter,
    squeezed,
    uniform,
)
from bncheck.convert.padding import constant_padding, pull_padding, push_padding
from bncheck.graph import Kind, Node
from bncheck.model.operations import STACKS, kwarg_or_position
from bncheck.model.traced_call import TracedCall

HOMOGENEOUS = frozenset({"relu", "leaky_relu", "prelu"})
"""Activations with `f(scale * x) = scale * f(x)` for every positive scale."""
_REDUCTIONS = frozenset({"mean", "sum", "amax"})
_NEAREST = ("nearest", "nearest-exact")


def is_transparent(node: Node, call: TracedCall) -> bool:
    """Tell whether maps may pass through this node at all."""
    if node.shape is None or any(i.shape is None for i in node.inputs) or not node.inputs:
        return False
    if len(node.inputs) > 1 and not (
        node.kind in {Kind.CONCAT, Kind.ADD}
        or call.call.name in STACKS
        or is_by_constants(node, call)
    ):
        return False  # what it does depends on values, such as an index that was computed
    if node.kind in {
        Kind.IDENTITY, Kind.RESHAPE, Kind.CONCAT, Kind.ADD, Kind.PADDING, Kind.UPSAMPLING
    }:  # fmt: skip
        return call.call.name != "setitem"
    if node.kind is Kind.POOLING:
        return not call.call.name.startswith("lp_pool")
    return call.call.name in HOMOGENEOUS or is_by_constants(node, call)


def pull(
    node: Node, call: TracedCall, labels: torch.Tensor, table: LabelTable
) -> list[torch.Tensor]:
    """Return the labelling of each input from the output's, of anything but a sum of tensors."""
    match node.kind:
        case Kind.IDENTITY:
            return [labels]
        case Kind.CONCAT if isinstance(call.arguments.get("dim", 0), int):
            return _pull_concatenation(node, call, labels)
        case _ if is_by_constants(node, call):
            return pull_constants(node, call, labels, table)
        case Kind.POOLING:
            axes = _pooled_axes(node, call)
            reduced = _pooled(call, _aligned(node, call, labels), axes, table)
            share = _share_of_input(node, call, axes, reduced, table)
            keys = ("fill", share), ("empty", share)
            reduced = table.variant(reduced, keys[0], lambda s, t: (s, t / share), keys[1])
            return [reduced.expand(_shape(node.inputs[0]))]
        case Kind.PADDING if constant_padding(call) is not None:
            return [pull_padding(node, call, labels, table)]
        case Kind.UPSAMPLING if not _is_nearest(call):
            reduced = uniform(labels, _spatial(node, call))
            return [reduced.expand(_shape(node.inputs[0]))]
        case _ if call.call.name in HOMOGENEOUS:
            _require_positive(labels, table, call.call.name)
            return [labels]
    return _pull_movement(node, call, labels)


def push(
    node: Node, call: TracedCall, labels: Sequence[torch.Tensor | None], table: LabelTable
) -> torch.Tensor:
    """Return the output's labelling from the inputs'; None stands for undetermined throughout."""
    given = [
        torch.tensor(UNDETERMINED).expand(_shape(source)) if one is None else one
        for one, source in zip(labels, node.inputs, strict=True)
    ]
    match node.kind:
        case Kind.IDENTITY:
            return given[0]
        case Kind.CONCAT if isinstance(call.arguments.get("dim", 0), int) and all(
            one.dim() == len(_shape(node)) for one in given
        ):
            return _push_concatenation(node, call, given)
        case _ if is_by_constants(node, call):
            return push_constants(node, call, given, table)
        case Kind.ADD:
            return _push_addition(node, call, given, table)
        case Kind.POOLING:
            axes = _pooled_axes(node, call)
            reduced = _pooled(call, given[0], axes, table)
            share = _share_of_input(node, call, axes, reduced, table)
            keys = ("empty", share), ("fill", share)
            reduced = table.variant(reduced, keys[0], lambda s, t: (s, t * share), keys[1])
            if call.call.name in _REDUCTIONS and len(_shape(node)) < reduced.dim():
                reduced = reduced.squeeze(axes)
            return reduced.expand(_shape(node))
        case Kind.PADDING if constant_padding(call) is not None:
            return push_padding(node, call, given[0], table)
        case Kind.UPSAMPLING if not _is_nearest(call):
            return uniform(given[0], _spatial(node, call)).expand(_shape(node))
        case _ if call.call.name in HOMOGENEOUS:
            _require_positive(given[0], table, call.call.name)
            return given[0]
    return _move(call, given)


def _shape(node: Node) -> tuple[int, ...]:
    assert node.shape is not None
    return node.shape


def drops_axes_by_size(call: TracedCall) -> bool:
    """Tell whether a call squeezes whatever axes have one element."""
    return call.call.name == "squeeze" and len(call.source.args) < 2 and not call.source.kwargs


def _move(call: TracedCall, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Run an operation that only moves data on integers.

    Some operations have no kernel for integers, which torch tells with one or the other error, and
    get real numbers. These do not come first: a cast would fill out labels that are expanded views.
    """
    if drops_axes_by_size(call):
        raise Blocked("passes squeeze() without a dim, which drops other axes at another size")
    try:
        return call.run(tensors)
    except (RuntimeError, NotImplementedError):
        return call.run([t.double() for t in tensors]).round().long()


def _pull_movement(node: Node, call: TracedCall, labels: torch.Tensor) -> list[torch.Tensor]:
    sizes = [torch.Size(_shape(source)).numel() for source in node.inputs]
    positions, start = [], 0
    for source, size in zip(node.inputs, sizes, strict=True):
        positions.append(torch.arange(start, start + size).view(_shape(source)))
        start += size
    whole = scatter(_move(call, positions), labels, start)
    return [
        part.view(_shape(source))
        for part, source in zip(torch.split(whole, sizes), node.inputs, strict=True)
    ]


def _pull_concatenation(node: Node, call: TracedCall, labels: torch.Tensor) -> list[torch.Tensor]:
    axis: Any = call.arguments.get("dim", 0)
    found, start = [], 0
    for source in node.inputs:
        size = _shape(source)[axis]
        found.append(labels.narrow(axis, start, size))
        start += size
    return found


def _push_concatenation(
    node: Node, call: TracedCall, given: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Concatenate labels without spelling out what is the same all along an axis."""
    shape = _shape(node)
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
    first, second = (one.expand(_shape(node)).clamp(min=IDENTITY) for one in labels)
    if not torch.equal(table.scales(first), table.scales(second)):
        raise Blocked("goes into an addition whose other summand has another scale")
    weight = float(call.arguments.get("alpha", 1)) * (-1 if call.call.name == "sub" else 1)
    width = len(table.scale)
    pairs = first * width + second
    present = distinct(pairs)
    one, other = present // width, present % width
    shift = table.shift[one] + weight * table.shift[other]
    return table.add(table.scale[one], shift)[torch.searchsorted(present, pairs)]


def _require_positive(labels: torch.Tensor, table: LabelTable, name: str) -> None:
    present = distinct(labels)
    if bool((table.shifts(present) != 0).any()):
        raise Blocked(f"meets {name}, which a shift cannot pass")
    if bool((table.scales(present) < 0).any()):
        raise Blocked(f"meets {name}, which a negative scale cannot pass")


def _spatial(node: Node, call: TracedCall) -> tuple[int, ...]:
    """Axes that a pooling or resampling layer works on."""
    rank = len(_shape(node.inputs[0]))
    digits = [c for c in call.call.name if c.isdigit()]
    count = int(digits[0]) if digits else rank - 2
    return tuple(range(rank - count, rank))


def _pooled_axes(node: Node, call: TracedCall) -> tuple[int, ...]:
    rank = len(_shape(node.inputs[0]))
    if call.call.name not in _REDUCTIONS:
        return _spatial(node, call)
    axes: Any = call.arguments.get("dim")
    if axes is None or axes in ((), []):
        return tuple(range(rank))
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    return tuple(axis % rank for axis in axes)


def _aligned(node: Node, call: TracedCall, labels: torch.Tensor) -> torch.Tensor:
    """Return the output's labels with reduced axes put back as axes of size 1."""
    if call.call.name in _REDUCTIONS and len(_shape(node)) < len(_shape(node.inputs[0])):
        for axis in sorted(_pooled_axes(node, call)):
            labels = labels.unsqueeze(axis)
    return labels


def counts_padding(call: TracedCall) -> bool:
    """Tell whether an average is taken of padding too, or divided by a number of its own."""
    padding = call.arguments.get("padding", 0)
    padded = any(padding) if isinstance(padding, tuple | list) else bool(padding)
    counts = call.arguments.get("count_include_pad", True)
    return call.call.name.startswith("avg_pool") and bool(
        (padded and counts) or call.arguments.get("divisor_override")
    )


def _share_of_input(
    node: Node, call: TracedCall, axes: tuple[int, ...], labels: torch.Tensor, table: LabelTable
) -> float:
    """Return what pooling makes of a one everywhere, where these maps have a shift."""
    shape = _shape(node.inputs[0])
    if not bool((table.shifts(distinct(labels)) != 0).any()):
        return 1.0
    if call.call.name == "sum":
        return float(math.prod(shape[axis] for axis in axes))
    if not counts_padding(call):
        return 1.0
    ones = torch.ones([size if axis in axes else 1 for axis, size in enumerate(shape)])
    shares: list[float] = call.run([ones.double()]).reshape(-1).tolist()
    if max(shares) > min(shares) * (1 + 1e-12):
        raise Blocked("meets average pooling that counts zero padding, which a shift cannot pass")
    return shares[0]


def _pooled(
    call: TracedCall,
    labels: torch.Tensor,
    axes: tuple[int, ...],
    table: LabelTable,
) -> torch.Tensor:
    reduced = uniform(labels, axes)
    present = distinct(reduced)
    if "max" in call.call.name and bool((table.scales(present) < 0).any()):
        raise Blocked("meets max pooling, which a negative scale cannot pass")
    return reduced


def _is_nearest(call: TracedCall) -> bool:
    if "nearest" in call.call.name:
        return True
    mode = kwarg_or_position(call.source, "mode") or "nearest"
    if call.source.op == "call_module":
        module: Any = call.source.graph.owning_module
        return module is not None and module.get_submodule(str(call.source.target)).mode in _NEAREST
    return call.call.name == "interpolate" and mode in _NEAREST
