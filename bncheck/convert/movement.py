"""How maps pass through operations that only move data: labels are moved as the data are."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bncheck.convert.labels import Blocked, scatter
from bncheck.graph import Node
from bncheck.model.traced_call import TracedCall


def shape_of(node: Node) -> tuple[int, ...]:
    """Return the shape of a node of which it is known."""
    assert node.shape is not None
    return node.shape


def drops_axes_by_size(call: TracedCall) -> bool:
    """Tell whether a call squeezes whatever axes have one element."""
    return call.call.name == "squeeze" and len(call.source.args) < 2 and not call.source.kwargs


def move(call: TracedCall, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Run an operation that only moves data on integers.

    Some operations have no kernel for integers, which torch tells by a RuntimeError, and get real
    numbers. These do not come first: a cast would fill out labels that are expanded views.
    """
    if drops_axes_by_size(call):
        raise Blocked("passes squeeze() without a dim, which drops other axes at another size")
    try:
        return call.run(tensors)
    except RuntimeError:
        return call.run([t.double() for t in tensors]).round().long()


def pull_movement(node: Node, call: TracedCall, labels: torch.Tensor) -> list[torch.Tensor]:
    """Return the labelling of each input from that of the result."""
    sizes = [torch.Size(shape_of(source)).numel() for source in node.inputs]
    positions, start = [], 0
    for source, size in zip(node.inputs, sizes, strict=True):
        positions.append(torch.arange(start, start + size).view(shape_of(source)))
        start += size
    whole = scatter(move(call, positions), labels, start)
    return [
        part.view(shape_of(source))
        for part, source in zip(torch.split(whole, sizes), node.inputs, strict=True)
    ]
