"""Tensors that are computed from the parameters of networks, alone or in lists and dicts."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.values import Container, Members, Value, Weights

_WEIGHS = frozenset({"mul", "mul_", "div", "div_", "lerp", "lerp_", "mean", "average", "sum"})
"""Functions and methods that weigh tensors, or add several."""
_WEIGHING = (cst.Multiply, cst.Divide, cst.MultiplyAssign, cst.DivideAssign)
_NEW = frozenset({"zeros_like", "ones_like", "empty_like", "randn_like", "rand_like", "full_like"})
_NO_TENSORS = frozenset({"numel", "size", "dim", "norm", "item", "len", "print", "isinstance"})
_DEEPEST = 3


def of(value: Value, depth: int = _DEEPEST) -> Weights | None:
    """Return the weights that a value is, or that a list or dict holds; None: it has none."""
    match value:
        case Weights():
            return value
        case Members(model=model, parameters=True):
            return Weights((model,))
        case Container(elements=elements) if depth:
            return together(of(element, depth - 1) for element in elements)
    return None


def together(values: Iterable[Weights | None]) -> Weights | None:
    """Return what stands for several of them."""
    found = [value for value in values if value is not None]
    if len(found) < 2:
        return found[0] if found else None
    models = dict.fromkeys(model for value in found for model in value.models)
    return Weights(tuple(models), any(value.mixed for value in found))


def combined(left: Value, operator: cst.CSTNode, right: Value) -> Weights | None:
    """Return what an operator makes of them; None: neither side is a tensor of a network."""
    sides = [side for side in (left, right) if isinstance(side, Weights) or _is_one(side)]
    made = together(map(of, sides))
    if made is None:
        return None
    return Weights(made.models, made.mixed or isinstance(operator, _WEIGHING))


def _is_one(value: Value) -> bool:
    return isinstance(value, Members) and value.parameters and value.one


def of_call(name: str, arguments: Arguments) -> Weights | None:
    """Return what a function from outside makes of weights that it is given."""
    last = name.rpartition(".")[2]
    given = arguments.all()
    if last in _NEW or last in _NO_TENSORS or not any(map(_holds, given)):
        return None
    made = together(map(of, given))
    return made and Weights(made.models, made.mixed or last in _WEIGHS)


def _holds(value: Value, depth: int = _DEEPEST) -> bool:
    if isinstance(value, Container):
        return depth > 0 and any(_holds(element, depth - 1) for element in value.elements)
    return isinstance(value, Weights)


def of_method(receiver: Weights, name: str, arguments: Arguments) -> Value:
    """Return what a method makes of weights; one that ends in `_` changes them in place."""
    if name in _WEIGHS and name.endswith("_"):
        receiver.mixed = True
        return receiver
    others = together(of(value) for value in arguments.all())
    made = together((receiver, others)) or receiver
    return Weights(made.models, True) if name in _WEIGHS else made
