"""With what factors an addition, a subtraction or an interpolation takes its two tensors."""

from __future__ import annotations

from typing import Any

from bncheck.convert.labels import Blocked
from bncheck.graph import Kind, Node
from bncheck.model.trace import TracedModel
from bncheck.model.traced_call import TracedCall


def read_as_additions(traced: TracedModel) -> None:
    """Make interpolations by a number additions in the graph, in place."""
    for node in traced.graph.nodes:
        call = traced.calls[node]
        if call.call.name == "lerp" and number(call.arguments.get("weight")) is not None:
            node.kind = Kind.ADD


def factors_of(call: TracedCall) -> tuple[float, float]:
    """Return the factors of the first and the second operand of an addition."""
    if call.call.name == "lerp":
        weight = number(call.arguments.get("weight"))
        assert weight is not None
        return 1.0 - weight, weight
    alpha = number(call.arguments.get("alpha", 1))
    if alpha is None:
        raise Blocked("passes an addition that was not understood")
    return 1.0, -alpha if call.call.name == "sub" else alpha


def factors_of_inputs(node: Node, call: TracedCall) -> list[float]:
    """Return the factor of each tensor that an addition reads; the other one may be a constant."""
    first, second = factors_of(call)
    if len(node.inputs) > 1:
        return [first, second]
    return [first if isinstance(call.arguments.get("input"), Node) else second]


def number(value: Any) -> float | None:
    """Return a plain number that is no flag."""
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
