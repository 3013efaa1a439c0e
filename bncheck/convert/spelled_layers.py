"""Finds layers that are spelled out: products by a parameter, with a bias that is added to them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from bncheck.convert.products import Product, View, product_of, view_of
from bncheck.graph import Kind, Node
from bncheck.model.operations import Call
from bncheck.model.trace import TracedModel
from bncheck.model.traced_call import Constant, TracedCall

_PRODUCTS = frozenset({"matmul", "mm", "bmm", "einsum", "tensordot"})
_SUMS = frozenset({"addmm", "baddbmm"})


def read_as_layers(traced: TracedModel) -> None:
    """Make products by parameters linear layers in the graph, and a bias that is added a part."""
    for node in list(traced.graph.nodes):
        call = traced.calls[node]
        if call.product is not None or call.call.name not in _PRODUCTS | _SUMS:
            continue
        found = _product(traced, node, call)
        if found is None:
            continue
        product, weight = found
        if call.call.name in _SUMS:
            with_bias = _with_bias(traced, product, node, call.arguments.get("input"))
            if with_bias is not None:
                _become_layer(node, call, call.call.name, weight, *with_bias)
            continue
        _become_layer(node, call, call.call.name, weight, product, None)
        _join_addition(traced, node, call, product)


def _become_layer(
    node: Node, call: TracedCall, operation: str, weight: str, product: Product, bias: str | None
) -> None:
    node.kind = Kind.LINEAR
    node.attributes = {**node.attributes, "operation": operation, "bias": bias is not None}
    call.call = Call(operation, Kind.LINEAR)
    node.parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    call.product = product


def _join_addition(traced: TracedModel, node: Node, call: TracedCall, product: Product) -> None:
    """Let an addition of a parameter that alone reads a product become one with it."""
    added = node.consumers[0] if len(node.consumers) == 1 else None
    if added is None or call.observed or added.kind is not Kind.ADD:
        return
    sum_call = traced.calls[added]
    first, other = (sum_call.arguments.get(name) for name in ("input", "other"))
    if sum_call.call.name != "add" or sum_call.arguments.get("alpha", 1) != 1:
        return
    if sum_call.call.in_place and len(call.source.users) > 1:
        return
    with_bias = _with_bias(traced, product, added, other if first is node else first)
    if with_bias is None or added.shape != node.shape:
        return
    _become_layer(added, sum_call, call.call.name, node.parameters["weight"], *with_bias)
    sum_call.reads |= call.reads
    sum_call.entry = call.entry
    added.inputs = list(node.inputs)
    for source in node.inputs:
        source.consumers[source.consumers.index(node)] = added
    traced.graph.nodes.remove(node)
    del traced.calls[node]


def _with_bias(
    traced: TracedModel, product: Product, node: Node, value: Any
) -> tuple[Product, str] | None:
    """Return the product and its bias, where that is a parameter of one number per channel."""
    seen = _parameter(traced, traced.calls[node], value)
    if seen is None or node.shape is None:
        return None
    name, bias, view = seen
    rank = len(node.shape)
    full = (1,) * (rank - bias.dim()) + tuple(bias.shape)
    channels = product.output_axes
    wanted = [node.shape[axis] if axis in channels else 1 for axis in range(rank)]
    if bias.dim() > rank or list(full) != wanted:
        return None
    lead = rank - bias.dim()
    order = (*range(lead), *(axis + lead for axis in view.order))
    return replace(product, bias_view=View(view.shape, order)), name


def _product(traced: TracedModel, node: Node, call: TracedCall) -> tuple[Product, str] | None:
    operands = _operands(call)
    if operands is None or node.shape is None or len(node.inputs) != 1:
        return None
    sides = [side for side, one in enumerate(operands) if isinstance(one, Node)]
    if len(sides) != 1 or node.inputs[0].shape is None:
        return None
    seen = _parameter(traced, call, operands[1 - sides[0]])
    if seen is None:
        return None
    name, weight, view = seen
    shapes: list[Sequence[int]] = [tuple(weight.shape)] * 2
    shapes[sides[0]] = node.inputs[0].shape
    letters = _letters(call, [len(shape) for shape in shapes], len(node.shape))
    if letters is None:
        return None
    one, two, result = letters
    if sides[0] == 0:
        found = product_of((one, two, result), (shapes[0], shapes[1], node.shape), view)
    else:
        found = product_of((two, one, result), (shapes[1], shapes[0], node.shape), view)
    return None if found is None else (found, name)


def _parameter(
    traced: TracedModel, call: TracedCall, value: Any
) -> tuple[str, torch.Tensor, View] | None:
    """Return the parameter that a constant is, but for the order of its axes, and both."""
    if not isinstance(value, Constant) or len(value.reads) != 1:
        return None
    name = next(iter(value.reads))
    parameter = traced.tensors.get(name)
    try:
        seen = call.value(value)
    except Exception:  # whatever it is computed by
        return None
    if parameter is None or not isinstance(seen, torch.Tensor) or not parameter.is_floating_point():
        return None
    view = view_of(seen, parameter)
    return None if view is None else (name, seen, view)


def _operands(call: TracedCall) -> tuple[Any, Any] | None:
    arguments = call.arguments
    if call.call.name in _SUMS:
        if arguments.get("beta", 1) != 1 or arguments.get("alpha", 1) != 1:
            return None
        return arguments.get("mat1"), arguments.get("mat2")
    first, other = arguments.get("input"), arguments.get("other")
    if isinstance(first, list | tuple) and len(first) == 2:
        return first[0], first[1]
    return first, other


def _letters(call: TracedCall, ranks: Sequence[int], result: int) -> tuple[str, str, str] | None:
    """Return the letters of the axes of both operands and of the result."""
    match call.call.name:
        case "einsum":
            return _spelled(call.arguments.get("equation"), ranks, result)
        case "tensordot":
            return _summed_over(call.arguments, ranks)
    if min(ranks) < 2:
        return None
    batch = string.ascii_lowercase[: max(ranks) - 2]
    first, other = (batch[len(batch) - rank + 2 :] for rank in ranks)
    return f"{first}XY", f"{other}YZ", f"{batch}XZ"


def _summed_over(arguments: dict[str, Any], ranks: Sequence[int]) -> tuple[str, str, str] | None:
    pairs = _dimensions(arguments.get("dims"), arguments.get("dims_other"), ranks[0])
    if pairs is None:
        return None
    first = string.ascii_lowercase[: ranks[0]]
    other = list(string.ascii_uppercase[: ranks[1]])
    for mine, theirs in zip(*pairs, strict=True):
        other[theirs] = first[mine]
    kept = [letter for letter in other if letter not in first]
    left = "".join(letter for letter in first if letter not in other)
    return first, "".join(other), left + "".join(kept)


def _dimensions(dims: Any, others: Any, rank: int) -> tuple[list[int], list[int]] | None:
    """Return the axes of each operand that are summed over."""
    match dims, others:
        case int(), None:
            return list(range(rank - dims, rank)), list(range(dims))
        case [[*mine], [*theirs]], None:
            return mine, theirs
        case [*mine], [*theirs]:
            return mine, theirs
    return None


def _spelled(equation: Any, ranks: Sequence[int], result: int) -> tuple[str, str, str] | None:
    """Return the letters of an equation, with those that its dots stand for."""
    if not isinstance(equation, str):
        return None
    given, arrow, after = equation.replace(" ", "").partition("->")
    operands = given.split(",")
    if len(operands) != 2:
        return None
    free = [letter for letter in string.ascii_letters if letter not in equation]
    dots = [rank - len(one.replace("...", "")) for one, rank in zip(operands, ranks, strict=True)]
    widest = "".join(free[: max(dots)])
    first, other = (
        one.replace("...", widest[len(widest) - max(count, 0) :])
        for one, count in zip(operands, dots, strict=True)
    )
    if not arrow:
        once = (letter for letter in sorted(given) if given.count(letter) == 1 and letter.isalpha())
        after = ("..." if "..." in given else "") + "".join(once)
    total = after.replace("...", widest)
    if (len(first), len(other), len(total)) != (*ranks, result):
        return None
    return first, other, total
