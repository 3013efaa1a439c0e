"""Flags that a loop over a model's members turns when it comes to one of them.

`for name, p in model.named_parameters(): if name == start: found = True`, and then
`p.requires_grad = found`.
"""

from __future__ import annotations

import libcst as cst

from bncheck.source.timeline.run import Run
from bncheck.source.timeline.shares import Refined, without_norms
from bncheck.source.timeline.values import Constant, Members, Opaque, Turned, Value
from bncheck.source.walk import walk_kinds


def begin(run: Run, node: cst.For, member: Members) -> tuple[str, ...]:
    """Bind each flag that a loop over members turns, and return their names."""
    flags: dict[str, Value] = {}
    for condition in walk_kinds(node.body, (cst.If,)):
        for name, turned_to in _set_by(condition):
            before = run.frame.names.get(name)
            if isinstance(before, Constant) and before.value is (not turned_to):
                flags[name] = Turned(member, not turned_to)
    run.frame.names.update(flags)
    return tuple(flags)


def end(run: Run, flags: tuple[str, ...]) -> None:
    """Forget what the flags of a loop are: where it turned them is not known."""
    run.frame.names.update((name, Opaque(name)) for name in flags)


def _set_by(condition: cst.If) -> list[tuple[str, bool]]:
    """Return what the body of an `if` sets to True or False."""
    found = []
    for line in condition.body.body:
        match line:
            case cst.SimpleStatementLine(
                body=[
                    cst.Assign(
                        targets=[cst.AssignTarget(target=cst.Name(value=name))],
                        value=cst.Name(value="True" | "False" as text),
                    )
                ]
            ):
                found.append((name, text == "True"))
    return found


def tested(run: Run, test: cst.BaseExpression) -> Refined | None:
    """Return what a test of such a flag means; None: it is on something else.

    The members before the turn are those at the front of the network.
    """
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=cst.Name(value=name)):
            wanted = False
        case cst.Name(value=name):
            wanted = True
        case _:
            return None
    flag = run.frame.names.get(name)
    if not isinstance(flag, Turned):
        return None
    member = flag.member
    names = tuple(other for other, bound in run.frame.names.items() if bound == member)
    sides = member, without_norms(member)
    return Refined(names, *(sides if wanted is flag.first else reversed(sides)))
