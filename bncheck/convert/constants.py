"""Multiplications by, and additions of, what does not depend on the input.

`y = factor * x + offset`, with a number or one number per channel for each: a layer scale, say.
What `y` is to be, `scale * y + shift`, it is where `x` becomes
`scale * x + (shift + (scale - 1) * offset) / factor`.
"""

from __future__ import annotations

from typing import Any

import torch

from bncheck.convert.additions import factors_of, number
from bncheck.convert.labels import UNDETERMINED, Blocked, LabelTable
from bncheck.graph import Kind, Node
from bncheck.model.traced_call import Constant, TracedCall
from bncheck.verification.precision import in_float64

_MULTIPLICATIONS = frozenset({"mul", "div", "neg"})
_FUSED = {"addcmul": "mul", "addcdiv": "div"}
_OPERATIONS = _MULTIPLICATIONS | _FUSED.keys() | {"add", "sub", "rsub", "lerp"}
_FILLED = {"zeros_like": 0.0, "ones_like": 1.0, "new_zeros": 0.0, "new_ones": 1.0}


def is_by_constants(node: Node, call: TracedCall) -> bool:
    """Tell whether a node multiplies one tensor by a constant, or adds one to it."""
    return call.call.name in _OPERATIONS and tensor_of(node) is not None


def tensor_of(node: Node) -> Node | None:
    """Return the one input of a node that is not filled with a number."""
    found = [source for source in node.inputs if _filling(source) is None]
    return found[0] if len(found) == 1 else None


def number_factor(node: Node, call: TracedCall) -> float | None:
    """Return the number that a node multiplies by, if that is all it does."""
    if call.call.name not in _MULTIPLICATIONS or not is_by_constants(node, call):
        return None
    try:
        factor, _ = _factor_and_offset(node, call)
    except Blocked:
        return None
    return float(factor) if factor.numel() == 1 else None


def pull_constants(
    node: Node, call: TracedCall, labels: torch.Tensor, table: LabelTable
) -> list[torch.Tensor]:
    """Return the labelling of each input from the output's."""
    values = _along(node, *_factor_and_offset(node, call))
    found = table.variant_by(
        labels,
        values,
        "before",
        lambda s, t, v: (s, (t + (s - 1) * v[:, 1]) / v[:, 0]),
        "behind",
    )
    source = tensor_of(node)
    nothing = torch.tensor(UNDETERMINED)
    return [found if one is source else nothing.expand(one.shape or ()) for one in node.inputs]


def push_constants(
    node: Node, call: TracedCall, given: list[torch.Tensor], table: LabelTable
) -> torch.Tensor:
    """Return the output's labelling from the inputs'."""
    values = _along(node, *_factor_and_offset(node, call))
    source = tensor_of(node)
    assert source is not None
    return table.variant_by(
        given[node.inputs.index(source)],
        values,
        "behind",
        lambda s, t, v: (s, t * v[:, 0] + (1 - s) * v[:, 1]),
        "before",
    )


def _filling(value: object) -> float | None:
    """Return the number that a tensor is filled with, whatever its shape is."""
    if not isinstance(value, Node) or value.inputs or value.kind is not Kind.OPERATION:
        return None
    return _FILLED.get(str(value.attributes.get("operation")))


def _factor_and_offset(node: Node, call: TracedCall) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a node multiplies one tensor by, and what it adds."""
    if call.factor_and_offset is None:
        call.factor_and_offset = _computed(node, call)
    return call.factor_and_offset


def _computed(node: Node, call: TracedCall) -> tuple[torch.Tensor, torch.Tensor]:
    name, arguments = call.call.name, call.arguments
    if name in _FUSED:
        return _fused(node, call)
    first, other = arguments.get("input"), arguments.get("end" if name == "lerp" else "other")
    one, nothing = torch.ones(1).double(), torch.zeros(1).double()
    if arguments.get("rounding_mode"):
        raise Blocked("passes a rounded division")
    if name == "neg":
        return -one, nothing
    swapped = first is not tensor_of(node)
    what = "a multiplication by" if name in _MULTIPLICATIONS else "an addition of"
    constant = _constant(call, first if swapped else other, what)
    match name:
        case "mul":
            return _usable_factor(constant), nothing
        case "div" if swapped:
            raise Blocked("passes a division by it")
        case "div":
            return _usable_factor(1 / constant), nothing
    own, others = factors_of(call)
    if name == "rsub":  # the other one less a multiple of the first
        own, others = -others, own
    if swapped:
        own, others = others, own
    return _usable_factor(one * own), constant * others


def _fused(node: Node, call: TracedCall) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `addcmul` or `addcdiv` multiplies its one tensor by, and what it adds."""
    one, other = call.arguments.get("tensor1"), call.arguments.get("tensor2")
    value, source = number(call.arguments.get("value", 1)), tensor_of(node)
    divides = _FUSED[call.call.name] == "div"
    if value is None or (divides and other is source):
        raise Blocked(f"passes {call.call.name}, which was not understood")

    def operand(given: Any) -> torch.Tensor:
        return _constant(call, given, f"{call.call.name} of")

    if source in (one, other):
        factor = operand(other if one is source else one)
        return _usable_factor(value / factor if divides else value * factor), operand(
            call.arguments.get("input")
        )
    added = operand(one) / operand(other) if divides else operand(one) * operand(other)
    return torch.ones(1).double(), value * added


def _constant(call: TracedCall, value: Any, what: str) -> torch.Tensor:
    """Return a number or parameter in float64."""
    filling = _filling(value)
    if filling is not None:
        value = filling
    if isinstance(value, int | float) and not isinstance(value, bool):
        return torch.tensor([float(value)], dtype=torch.float64)
    if not isinstance(value, Constant):
        raise Blocked(f"passes {what} something that was not understood")
    try:
        plain = call.value(value)
        with in_float64(plain.dtype):
            found: torch.Tensor = call.value(value).detach().cpu()
    except Exception as problem:  # whatever it is computed by, such as a size of the input
        raise Blocked(f"passes {what} something that was not understood") from problem
    if not plain.dtype.is_floating_point or found.dtype is not torch.float64:
        raise Blocked(f"passes {what} values of dtype {plain.dtype}")
    if sum(size > 1 for size in found.shape) > 1:
        raise Blocked(f"passes {what} a parameter that is not one number per channel")
    rounding = 100 * torch.finfo(plain.dtype).eps
    if not torch.allclose(plain.detach().cpu().double(), found, rtol=rounding, atol=0):
        raise Blocked(f"passes {what} a parameter that is rounded on the way")
    return found


def _usable_factor(factor: torch.Tensor) -> torch.Tensor:
    if not bool((factor.isfinite() & (factor != 0)).all()):
        raise Blocked("passes a multiplication by zero, infinity or NaN")
    return factor


def _along(node: Node, factor: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Return factor and offset along a last axis, behind axes as the node has them."""
    source = tensor_of(node)
    if source is None or node.shape is None or source.shape != node.shape:
        raise Blocked("is brought to another shape by what it is multiplied by or added to")
    if not bool(offset.isfinite().all()):
        raise Blocked("passes an addition of infinity or NaN")
    values = torch.stack([factor + 0 * offset, offset + 0 * factor], -1)
    return values.view([1] * (len(node.shape) + 1 - values.dim()) + list(values.shape))
