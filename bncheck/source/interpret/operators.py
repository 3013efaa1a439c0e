"""Operators: between numbers and tensors, of logic, and comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libcst as cst

from bncheck.source.interpret.dispatch import Evaluate, expression
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.operations import binary_operation, comparison, unary_operation
from bncheck.source.interpret.values import UNKNOWN, is_constant, truth

_SYMBOLS: dict[type, str] = {
    cst.Add: "+",
    cst.Subtract: "-",
    cst.Multiply: "*",
    cst.Divide: "/",
    cst.FloorDivide: "//",
    cst.Modulo: "%",
    cst.Power: "**",
    cst.MatrixMultiply: "@",
    cst.BitAnd: "&",
    cst.BitOr: "|",
    cst.BitXor: "^",
    cst.LeftShift: "<<",
    cst.RightShift: ">>",
    cst.Equal: "==",
    cst.NotEqual: "!=",
    cst.LessThan: "<",
    cst.LessThanEqual: "<=",
    cst.GreaterThan: ">",
    cst.GreaterThanEqual: ">=",
    cst.Is: "is",
    cst.IsNot: "is not",
    cst.In: "in",
    cst.NotIn: "not in",
    cst.Minus: "-",
    cst.Plus: "+",
    cst.Not: "not",
    cst.BitInvert: "~",
}


def symbol_of(operator: cst.CSTNode) -> str:
    """Return an operator as it is written, augmented ones without their `=`."""
    kind = type(operator)
    if kind in _SYMBOLS:
        return _SYMBOLS[kind]
    return _SYMBOLS.get(getattr(cst, kind.__name__.removesuffix("Assign"), kind), "?")


def _binary(node: cst.BinaryOperation) -> Evaluate:
    # A long chain of operators leans to the left: it is unrolled, so as not to recurse as deep.
    chain: list[tuple[str, Evaluate, cst.BaseExpression]] = []
    leftmost: cst.BaseExpression = node
    while isinstance(leftmost, cst.BinaryOperation):
        chain.append((symbol_of(leftmost.operator), expression(leftmost.right), leftmost))
        leftmost = leftmost.left
    first = expression(leftmost)
    chain.reverse()

    def evaluate(frame: Frame) -> object:
        value = first(frame)
        for symbol, right, place in chain:
            value = binary_operation(frame.machine, symbol, value, right(frame), frame.site(place))
        return value

    return evaluate


def _unary(node: cst.UnaryOperation) -> Evaluate:
    operand, symbol = expression(node.expression), symbol_of(node.operator)
    return lambda frame: unary_operation(frame.machine, symbol, operand(frame), frame.site(node))


def _boolean(node: cst.BooleanOperation) -> Evaluate:
    left, right = expression(node.left), expression(node.right)
    stops_at = isinstance(node.operator, cst.Or)

    def evaluate(frame: Frame) -> object:
        first = left(frame)
        known = truth(first)
        if known is stops_at:
            return first
        second = right(frame)
        if known is not None:
            return second
        if truth(second) is stops_at and is_constant(second):
            return second if isinstance(second, bool) else frame.machine.join(first, second)
        if is_constant(first) or is_constant(second):
            return UNKNOWN
        return frame.machine.join(first, second)

    return evaluate


def _comparison(node: cst.Comparison) -> Evaluate:
    first = expression(node.left)
    rest = [(symbol_of(c.operator), expression(c.comparator)) for c in node.comparisons]

    def evaluate(frame: Frame) -> object:
        left = first(frame)
        result: object = True
        for symbol, right_of in rest:
            right = right_of(frame)
            one = comparison(frame.machine, symbol, left, right, frame.site(node))
            if one is False:
                return False
            result = one if result is True else UNKNOWN
            left = right
        return result

    return evaluate


OPERATORS: dict[type, Callable[[Any], Evaluate]] = {
    cst.BinaryOperation: _binary,
    cst.UnaryOperation: _unary,
    cst.BooleanOperation: _boolean,
    cst.Comparison: _comparison,
}
