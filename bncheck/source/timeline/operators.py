"""What operators make of the values on both sides, while a script is followed."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import libcst as cst

from bncheck.graph import UNKNOWN
from bncheck.source.timeline import weights
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import (
    LONGEST_TEXT,
    Class,
    Constant,
    Container,
    Data,
    Function,
    Instance,
    Members,
    Models,
    Opaque,
    Optimizer,
    Settings,
    Tensor,
    Value,
    truth,
)

_ARITHMETIC: dict[type[cst.BaseBinaryOp], Callable[[Any, Any], object]] = {
    cst.Add: operator.add,
    cst.Subtract: operator.sub,
    cst.Multiply: operator.mul,
    cst.FloorDivide: operator.floordiv,
    cst.Divide: operator.truediv,
}
_COMPARE: dict[type[cst.BaseCompOp], Callable[[Any, Any], object]] = {
    cst.Equal: operator.eq,
    cst.NotEqual: operator.ne,
    cst.LessThan: operator.lt,
    cst.LessThanEqual: operator.le,
    cst.GreaterThan: operator.gt,
    cst.GreaterThanEqual: operator.ge,
    cst.Is: operator.is_,
    cst.IsNot: operator.is_not,
    cst.In: lambda a, b: a in b,
    cst.NotIn: lambda a, b: a not in b,
}

_OBJECTS = (
    Class,
    Container,
    Data,
    Function,
    Instance,
    Members,
    Models,
    Optimizer,
    Settings,
    Tensor,
)
"""What is never None."""


def binary(left: Value, op: cst.BaseBinaryOp, right: Value) -> Value:
    """Return `left + right` and the like: of constants, lists, tensors and members."""
    if isinstance(left, Constant) and isinstance(right, Constant):
        compute = _ARITHMETIC.get(type(op))
        if compute is not None:
            if _makes_long_text(left.value, op, right.value):
                return Opaque()
            try:
                return Constant(compute(left.value, right.value), left.fixed and right.fixed)
            except (TypeError, ArithmeticError, ValueError):
                return Opaque()
    if isinstance(left, Tensor):
        return left
    if isinstance(right, Tensor):
        # `images - mean[None]` has as many samples as the images, which are not known here.
        return right if isinstance(left, Constant) else right.of_size(UNKNOWN)
    match left, right:
        case Constant(value=int(whole)), Opaque() if isinstance(op, cst.FloorDivide | cst.Divide):
            return Opaque(at_most=whole)
        case Container(keys=None), Container(keys=None):
            return Container(left.elements + right.elements)
    made = weights.combined(left, op, right)
    if made is not None:
        return made
    return left if isinstance(left, Members) else Opaque()


_DEVICES = re.compile(r"gpu|device|card", re.IGNORECASE)


def for_each_device(node: cst.BinaryOperation, left: Value, right: Value) -> Opaque | None:
    """Return what each device is given of so many for each: `4 * torch.cuda.device_count()`."""
    match left, right:
        case (Constant(value=int(each)), Opaque(name=name)):
            number = node.right
        case (Opaque(name=name), Constant(value=int(each))):
            number = node.left
        case _:
            return None
    if not isinstance(node.operator, cst.Multiply):
        return None
    counted = isinstance(number, cst.Call) and any(map(_DEVICES.search, mentions(number)))
    return Opaque(for_each=each) if counted or name == "device_count" else None


def _makes_long_text(left: object, op: cst.BaseBinaryOp, right: object) -> bool:
    """Tell whether an operation makes a text that is too long to say anything: `"=" * 10 ** 9`."""
    match left, right:
        case (str(text), int(times)) | (int(times), str(text)) if isinstance(op, cst.Multiply):
            return len(text) * times > LONGEST_TEXT
        case str(), str():
            return len(left) + len(right) > LONGEST_TEXT
    return False


_COMPUTES: dict[str, Callable[..., object]] = {
    "bool": bool,
    "int": int,
    "round": round,
    "max": max,
    "min": min,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
}


def computed(name: str, values: Sequence[Value]) -> Constant | None:
    """Return what a built-in function makes of numbers; None: not of what is known."""
    numbers = [v.value for v in values if isinstance(v, Constant)]
    if name not in _COMPUTES or not values or len(numbers) < len(values):
        return None
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    fixed = all(isinstance(value, Constant) and value.fixed for value in values)
    try:
        return Constant(_COMPUTES[name](*numbers), fixed)
    except (TypeError, ValueError, OverflowError):
        return None


def compare(left: Value, op: cst.BaseCompOp, right: Value) -> Value:
    """Return what a comparison says, as far as it can be known."""
    if isinstance(left, Constant) and isinstance(right, Constant):
        compute = _COMPARE.get(type(op))
        if compute is not None:
            try:
                return Constant(bool(compute(left.value, right.value)), left.fixed and right.fixed)
            except TypeError:
                return Opaque()
    if isinstance(left, Models) and left.exists is not None and right == Constant(None):
        return _whether(left.exists, isinstance(op, cst.IsNot | cst.NotEqual))
    if isinstance(right, Constant) and right.value is None and isinstance(left, _OBJECTS):
        return Constant(isinstance(op, cst.IsNot | cst.NotEqual))
    match left, right:
        case Constant(), Container(elements=elements) if isinstance(op, cst.In):
            if all(isinstance(element, Constant) for element in elements):
                return Constant(left in elements, left.fixed)
    return Opaque()


def _whether(value: Constant | Opaque, wanted: bool) -> Value:
    """Return whether a truth value is the wanted one."""
    if isinstance(value, Constant):
        return Constant(bool(value.value) is wanted, value.fixed)
    return Opaque()


def boolean(left: Value, op: cst.BaseBooleanOp, right: Value) -> Value:
    """Return `left and right` or `left or right`: what is known, or the model among them."""
    known = truth(left)
    if known is not None:
        return right if known == isinstance(op, cst.And) else left
    if isinstance(left, Container) and left.elements and isinstance(op, cst.Or):
        return left
    if truth(right) is (not isinstance(op, cst.And)) and isinstance(right, Constant):
        return right
    if isinstance(left, Constant) and isinstance(right, Constant):
        chosen = right if bool(left.value) is isinstance(op, cst.And) else left
        return Constant(chosen.value, fixed=False)
    models = [value for value in (left, right) if isinstance(value, Models)]
    return models[0] if models else Opaque()
