"""How per-channel affine maps pass through padding with a constant."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

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
from bncheck.graph import Node
from bncheck.model.traced_call import TracedCall


def constant_padding(call: TracedCall) -> tuple[list[int], float] | None:
    """Return the padding and its value where it pads with a constant, None otherwise."""
    if call.call.name in {"reflection_pad", "replication_pad", "circular_pad"}:
        return None
    if call.arguments.get("mode", "constant") != "constant":
        return None
    padding: Any = call.arguments.get("pad")
    value: Any = call.arguments.get("value", 0.0)
    if not isinstance(padding, tuple | list) or not all(isinstance(p, int) for p in padding):
        raise Blocked("passes padding that was not understood")
    return list(padding), float(value or 0.0)


def pull_padding(
    node: Node, call: TracedCall, labels: torch.Tensor, table: LabelTable
) -> torch.Tensor:
    """Return the labelling of what is padded from that of the result."""
    constant = constant_padding(call)
    assert constant is not None
    padding, value = constant
    shape = node.inputs[0].shape
    assert shape is not None
    size = torch.Size(shape).numel()
    places = functional.pad(torch.arange(size).view(shape), padding, value=-1)
    border = distinct(labels[places == -1])
    if bool((table.scales(border) * value + table.shifts(border) != value).any()):
        raise Blocked("meets constant padding, whose border has no shift")
    inside = places != -1
    return scatter(places[inside], labels[inside], size).view(shape)


def push_padding(
    node: Node, call: TracedCall, labels: torch.Tensor, table: LabelTable, is_averaged: bool
) -> torch.Tensor:
    """Return the labelling of the result from that of what is padded.

    A border of zeros takes no shift, which only averages behind it can make up for.
    """
    constant = constant_padding(call)
    assert constant is not None
    padding, value = constant
    shape = node.shape
    assert shape is not None
    present = distinct(labels)
    kept = bool((table.scales(present) * value + table.shifts(present) == value).all())
    if not kept and _pads_channels_alone(padding, len(shape)):
        sizes = [labels.shape[1] if axis == 1 else -1 for axis in range(labels.dim())]
        padded = functional.pad(squeezed(labels).expand(sizes), padding, value=IDENTITY)
        return padded.expand(shape)
    spatial = tuple(range(len(shape) - len(padding) // 2, len(shape)))
    if not kept and any(amount > 0 for amount in padding):
        if value != 0 or not is_averaged:
            raise Blocked("meets constant padding, whose border has no shift")
        border = uniform(table.scale_only(labels), spatial).expand(shape)
        inside = functional.pad(torch.ones_like(labels), padding) == 1
        return torch.where(inside, functional.pad(labels, padding), border)
    try:
        return uniform(labels, spatial).expand(shape)
    except (Blocked, RuntimeError):
        return functional.pad(labels, padding, value=UNDETERMINED)


def _pads_channels_alone(padding: list[int], rank: int) -> bool:
    """Tell whether channels are added and nothing else is, so that each has still one map."""
    return all(
        amount == 0 or (rank - 1 - place // 2 == 1 and amount > 0)
        for place, amount in enumerate(padding)
    )
