"""How maps pass through `torch.where`, which takes each element from one of two tensors."""

from __future__ import annotations

import torch

from bncheck.convert.labels import IDENTITY, UNDETERMINED, Blocked, distinct
from bncheck.graph import Node
from bncheck.model.traced_call import TracedCall


def is_choice(node: Node, call: TracedCall) -> bool:
    """Tell whether a node chooses between two tensors of one shape."""
    one, other = _sides(call)
    return (
        call.call.name == "where"
        and call.source.op == "call_function"
        and isinstance(one, Node)
        and isinstance(other, Node)
        and one.shape == other.shape == node.shape
        and node.inputs[-2:] == [one, other]
    )


def pull_choice(node: Node, labels: torch.Tensor) -> list[torch.Tensor]:
    """Return the labelling of each input from the result's; of the condition, nothing is asked."""
    nothing = [torch.tensor(UNDETERMINED).expand(one.shape or ()) for one in node.inputs[:-2]]
    return [*nothing, labels, labels]


def push_choice(given: list[torch.Tensor]) -> torch.Tensor:
    """Return the labelling of the result from those of the inputs."""
    *condition, one, other = given
    if any(bool((distinct(labels) > IDENTITY).any()) for labels in condition):
        raise Blocked("decides what where chooses")
    known = (one != UNDETERMINED) & (other != UNDETERMINED)
    if bool((known & (one != other)).any()):
        raise Blocked("goes into where with a tensor of another scale or shift")
    return torch.where(one == UNDETERMINED, other, one)


def _sides(call: TracedCall) -> tuple[object, object]:
    return call.arguments.get("input"), call.arguments.get("other")
