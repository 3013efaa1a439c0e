"""Sizes that are known as sums of products, and when two of them surely differ."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from bncheck.graph import UNKNOWN, Symbol

Terms = Counter[tuple[str, ...]]
"""The factor of each product of names; the empty product is the constant."""


def surely_differ(one: object, other: object) -> bool:
    """Tell whether two sizes differ whatever positive numbers the names in them stand for.

    A term that only one of them has may be 0, such as a flag that is added.
    """
    if type(one) is int and type(other) is int:
        return one != other and one > 0 and other > 0
    left, right = terms(one), terms(other)
    if left is None or right is None:
        return False
    rest = Counter(left)
    rest.subtract(right)
    rest = Terms({product: factor for product, factor in rest.items() if factor})
    one_sign = all(factor > 0 for factor in rest.values()) or all(
        factor < 0 for factor in rest.values()
    )
    return one_sign and any(not names or (names in left and names in right) for names in rest)


def total(sizes: Iterable[object]) -> object:
    """Return the sum of sizes: a number or a symbol, UNKNOWN where one of them is no size."""
    found = Terms()
    for size in sizes:
        own = terms(size)
        if own is None:
            return UNKNOWN
        found.update(own)
    if not any(found.keys()):
        return found[()] or UNKNOWN
    shown = []
    for names, factor in sorted(found.items()):
        number = [str(factor)] if factor != 1 or not names else []
        shown.append("*".join([*number, *names]))
    return Symbol(" + ".join(shown))


def terms(value: object) -> Terms | None:
    """Return a size as a sum of products of names; None where it is not known to be one."""
    if type(value) is int and value > 0:
        return Terms({(): value})
    return _read(value.expression) if isinstance(value, Symbol) else None


@lru_cache(maxsize=4096)
def _read(expression: str) -> Terms | None:
    try:
        return _terms(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _terms(node: ast.expr) -> Terms | None:
    match node:
        case ast.Constant(value=int() as number):
            return Terms({(): number})
        case ast.Name() | ast.Attribute() | ast.Subscript() | ast.Call():
            return Terms({(ast.unparse(node),): 1})
        case ast.BinOp(op=ast.FloorDiv()):
            return Terms({(f"({ast.unparse(node)})",): 1})
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            found = _terms(operand)
            return None if found is None else _scaled(found, -1)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() as operator, right=right):
            one, other = _terms(left), _terms(right)
            if one is None or other is None:
                return None
            if isinstance(operator, ast.Mult):
                return _product(one, other)
            found = Terms(one)
            found.update(other if isinstance(operator, ast.Add) else _scaled(other, -1))
            return found
    return None


def _scaled(found: Terms, factor: int) -> Terms:
    return Terms({names: factor * own for names, own in found.items()})


def _product(one: Terms, other: Terms) -> Terms:
    found = Terms()
    for left, factor in one.items():
        for right, own in other.items():
            found[tuple(sorted(left + right))] += factor * own
    return found
