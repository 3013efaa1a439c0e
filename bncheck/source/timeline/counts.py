"""Conditions that count: `if step % 16 == 0:`, `if gathered == 16:`, `if step - last >= 16:`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import libcst as cst

from bncheck.source.module import dotted
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.walk import walk, walk_kinds


@dataclass(frozen=True)
class Counted:
    """What a test counts up to, by the side of it that waits for that."""

    body: cst.BaseExpression | None = None
    rest: cst.BaseExpression | None = None
    """What does not pass the test: the `else`, or what follows `continue`."""
    goes_on: bool = False
    """Whether what passes it goes on with the next round of the loop."""


_NEVER = Counted()


def counted(run: Run, node: cst.If) -> Counted:
    """Return what an `if` counts up to, also where its test is a name for one that counts."""
    found = _counted(node)
    if found is not _NEVER:
        return found
    for name in _names(node.test):
        test = run.frame.assigned.get(name)
        if isinstance(test, cst.Comparison | cst.BooleanOperation | cst.UnaryOperation):
            found = _sides(node, test, isinstance(node.test, cst.UnaryOperation))
            if found is not _NEVER:
                return found
    return _NEVER


@lru_cache(maxsize=8192)
def _counted(node: cst.If) -> Counted:
    found = _sides(node, node.test)
    if found is not _NEVER:
        return found
    for test in _parts(node.test):
        match test:
            case cst.Comparison(
                left=left,
                comparisons=[
                    cst.ComparisonTarget(
                        operator=cst.Equal() | cst.GreaterThanEqual() | cst.LessThanEqual(),
                        comparator=number,
                    )
                ],
            ):
                again = _starts_again(node.body, left)
                if again is not None:
                    return Counted(number if _is_zero(again) or not _is_zero(number) else again)
    return _NEVER


def _parts(test: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """Yield the tests that `and` and `or` combine."""
    if isinstance(test, cst.BooleanOperation):
        yield from _parts(test.left)
        yield from _parts(test.right)
    else:
        yield test


def _sides(node: cst.If, test: cst.BaseExpression, turned: bool = False) -> Counted:
    """Return what a test for a rest of a division counts up to."""
    for part in walk_kinds(test, (cst.BinaryOperation,)):
        if isinstance(part.operator, cst.Modulo):
            number: cst.BaseExpression = part.right
            if _waits(test, part) is not turned:
                return Counted(number)
            last = node.body.body[-1] if isinstance(node.body, cst.IndentedBlock) else node.body
            goes_on = any(isinstance(inner, cst.Continue) for inner in walk(last))
            # `if step % 2:` passes once in so many rounds as well.
            return Counted(number if test is part else None, number, goes_on)
    return _NEVER


def _waits(test: cst.BaseExpression, rest: cst.CSTNode) -> bool:
    """Tell whether a test passes for one rest only: not `step % 16`, `step % 16 != 0`."""
    if test is rest:
        return False
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            return not _waits(inner, rest)
        case cst.Comparison(comparisons=[cst.ComparisonTarget(operator=operator)]):
            return not isinstance(operator, cst.NotEqual | cst.GreaterThan)
        case cst.BooleanOperation(left=left, right=right):
            return _waits(left if any(part is rest for part in walk(left)) else right, rest)
    return True


def _starts_again(body: cst.CSTNode, counter: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return what a body sets the counter to, or a mark that it is counted from."""
    match counter:
        case cst.BinaryOperation(left=_, operator=cst.Subtract(), right=right):
            counter = right
    name = dotted(counter)
    for part in walk_kinds(body, (cst.Assign,)) if name is not None else ():
        if dotted(part.targets[0].target) == name:
            value: cst.BaseExpression = part.value
            return value
    return None


def _is_zero(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Integer) and node.value == "0"


def _names(test: cst.BaseExpression) -> frozenset[str]:
    """Return the names in a test of nothing but names: `update`, `not update`, `update or last`."""
    if isinstance(test, cst.Name | cst.UnaryOperation | cst.BooleanOperation):
        return identifiers(test)
    return frozenset()
