"""How maps pass through the larger or smaller one of two tensors, element by element.

Where both are scaled by one positive factor and shifted alike, so is the larger one of them.
"""

from __future__ import annotations

import torch

from bncheck.convert.labels import UNDETERMINED, Blocked, LabelTable, distinct
from bncheck.graph import Node
from bncheck.model.traced_call import TracedCall

_EXTREMES = frozenset({"maximum", "minimum", "max", "min", "fmax", "fmin"})


def is_extreme(node: Node, call: TracedCall) -> bool:
    """Tell whether a node takes the larger or smaller one of two tensors of one shape."""
    return (
        call.call.name in _EXTREMES
        and len(node.inputs) == 2
        and all(source.shape == node.shape for source in node.inputs)
    )


def pull_extreme(call: TracedCall, labels: torch.Tensor, table: LabelTable) -> list[torch.Tensor]:
    """Return the labelling of both tensors from that of the result."""
    _require_order_kept(call, labels, table)
    return [labels, labels]


def push_extreme(call: TracedCall, given: list[torch.Tensor], table: LabelTable) -> torch.Tensor:
    """Return the labelling of the result from those of both tensors."""
    one, other = given
    for labels in given:
        _require_order_kept(call, labels, table)
    known = (one != UNDETERMINED) & (other != UNDETERMINED)
    if bool((known & (one != other)).any()):
        raise Blocked(f"goes into {call.call.name} with a tensor of another scale or shift")
    return torch.where(one == UNDETERMINED, other, one)


def _require_order_kept(call: TracedCall, labels: torch.Tensor, table: LabelTable) -> None:
    if bool((table.scales(distinct(labels)) < 0).any()):
        raise Blocked(f"meets {call.call.name}, which a negative scale cannot pass")
