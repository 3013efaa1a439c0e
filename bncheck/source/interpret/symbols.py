"""Arithmetic on constants and symbols; equal expressions get equal symbols.

A symbol is a polynomial over atoms, printed in one order: `channels * 4` and `4 * channels` are
both `4*channels`. What is no polynomial, such as a division with a remainder, is an atom itself.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

from bncheck.graph import UNKNOWN, Symbol

_Terms = dict[tuple[str, ...], Fraction]
_MOST_TERMS: Final = 12
_LARGEST: Final = 10**12
_LONGEST: Final = 10_000

_terms: dict[str, _Terms] = {}
"""What each compound symbol made here stands for."""


def _polynomial(value: object) -> _Terms | None:
    if isinstance(value, Symbol):
        return _terms.get(value.expression, {(value.expression,): Fraction(1)})
    if isinstance(value, (bool, int)):
        return {(): Fraction(value)} if value else {}
    return None


def _value(terms: _Terms) -> object:
    terms = {atoms: factor for atoms, factor in terms.items() if factor}
    if not terms:
        return 0
    if list(terms) == [()]:
        constant = terms[()]
        return int(constant) if constant.denominator == 1 else float(constant)
    if len(terms) > _MOST_TERMS:
        return UNKNOWN
    parts = []
    for atoms, factor in sorted(terms.items()):
        number = [] if factor == 1 and atoms else [str(factor)]
        parts.append("*".join([*number, *atoms]))
    expression = " + ".join(parts)
    if len(expression) > _LONGEST:
        return UNKNOWN
    if terms != {(expression,): Fraction(1)}:
        _terms[expression] = terms
    return Symbol(expression)


def _sum(one: _Terms, other: _Terms, sign: int) -> object:
    total = dict(one)
    for atoms, factor in other.items():
        total[atoms] = total.get(atoms, Fraction(0)) + sign * factor
    return _value(total)


def _product(one: _Terms, other: _Terms) -> object:
    total: _Terms = {}
    for left, x in one.items():
        for right, y in other.items():
            atoms = tuple(sorted(left + right))
            total[atoms] = total.get(atoms, Fraction(0)) + x * y
    return _value(total)


def _symbolic(symbol: str, one: object, other: object) -> object:
    if symbol == "*" and isinstance(one, float):
        return _symbolic(symbol, other, one)
    if symbol in {"*", "/"} and isinstance(other, float):
        return Symbol(f"({_text(one)} {symbol} {other!r})")
    left, right = _polynomial(one), _polynomial(other)
    if left is None or right is None:
        return UNKNOWN
    match symbol:
        case "+":
            return _sum(left, right, 1)
        case "-":
            return _sum(left, right, -1)
        case "*":
            return _product(left, right)
        case "//" if isinstance(other, int) and other:
            if all(factor.denominator == 1 and factor % other == 0 for factor in left.values()):
                return _value({atoms: factor / other for atoms, factor in left.items()})
    if symbol in {"//", "/", "%", "**"}:
        return Symbol(f"({_text(one)} {symbol} {_text(other)})")
    return UNKNOWN


def _text(value: object) -> str:
    if not isinstance(value, Symbol):
        return repr(value)
    return f"({value.expression})" if value.expression in _terms else value.expression


_FRACTION: Final = re.compile(r"/|(?<![\w.])\d+(?:\.|e-)\d")


def whole(symbol: Symbol) -> Symbol:
    """Return what `int(...)` of a symbol gives: the same where nothing in it makes a fraction."""
    inner = symbol.expression
    return Symbol(f"int({inner})") if _FRACTION.search(inner) else symbol


_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}


def binary(symbol: str, one: object, other: object) -> object:
    """Return the result of a binary operator on constants and symbols; UNKNOWN where it fails."""
    if isinstance(one, Symbol) or isinstance(other, Symbol):
        return _symbolic(symbol, one, other)
    if not _small(symbol, one, other):
        return UNKNOWN
    try:
        result: object = _OPERATORS[symbol](one, other)
    except (TypeError, ValueError, ArithmeticError, KeyError):
        return UNKNOWN
    return result


def _small(symbol: str, one: object, other: object) -> bool:
    """Tell whether a result is of a size that is worth computing."""
    numbers = [x for x in (one, other) if isinstance(x, (int, float))]
    if any(isinstance(x, int) and abs(x) > _LARGEST for x in numbers):
        return False
    if symbol in {"**", "<<"}:
        return len(numbers) == 2 and abs(numbers[1]) <= 64
    if symbol == "*" and len(numbers) == 1:
        sequence = other if numbers[0] is one else one
        length = len(sequence) if isinstance(sequence, (str, bytes, tuple)) else 1
        return length * abs(numbers[0]) <= _LONGEST
    if symbol == "%" and isinstance(one, str):
        return len(one) < 200 and "*" not in one and not any(c.isdigit() for c in one)
    return True


_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compare(symbol: str, one: object, other: object) -> bool | None:
    """Return the result of a comparison of constants or symbols; None where it is not known."""
    if isinstance(one, Symbol) or isinstance(other, Symbol):
        if one == other:
            return {"==": True, "!=": False, "<=": True, ">=": True, "<": False, ">": False}[symbol]
        return None
    try:
        return bool(_COMPARISONS[symbol](one, other))
    except TypeError:
        return None
