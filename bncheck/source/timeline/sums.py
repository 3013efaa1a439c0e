"""Gradients and losses that several rounds of a loop add up before the optimizer steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bncheck.events import BackwardCall, Count, Gathering
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import names_in_order


def backward(run: Run, node: cst.Call) -> BackwardCall:
    """Return the event of a backward pass.

    One over what every round has added up goes back through each of them: it waits for no count.
    """
    count = None if isinstance(run.count, Gathering) else run.count
    loops = [around for around, _ in run.frame.around if isinstance(around, cst.For | cst.While)]
    if count is not None and loops and not _summed(loops[-1]).isdisjoint(names_in_order(node)):
        count = None
    return BackwardCall(run.site(node), count)


def told(run: Run, owner: cst.BaseExpression, keyword: str) -> tuple[cst.Call, Count] | None:
    """Return the call that makes a library's object and tells it to gather batches.

    `trainer = Trainer(accumulate_grad_batches=8)`; None: it is told none, or not known to be.
    """
    made = run.frame.assigned.get(owner.value) if isinstance(owner, cst.Name) else owner
    for argument in made.args if isinstance(made, cst.Call) else ():
        if argument.keyword is not None and argument.keyword.value == keyword:
            number = run.number(argument.value)
            if isinstance(made, cst.Call) and isinstance(number, int) and number > 1:
                return made, Gathering()
    return None


@lru_cache(maxsize=1024)
def _summed(loop: cst.For | cst.While) -> frozenset[str]:
    """Return the names that each round adds to and none begins anew."""
    added, begun = set[str](), set[str]()
    for statement in _in_each_round(loop.body):
        match statement:
            case cst.AugAssign(target=cst.Name(value=name), operator=cst.AddAssign()):
                added.add(name)
            case cst.Assign(targets=targets):
                begun |= {t.target.value for t in targets if isinstance(t.target, cst.Name)}
    return frozenset(added - begun)


def _in_each_round(body: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield the simple statements of a body, but for those under a condition."""
    for part in getattr(body, "body", ()):
        match part:
            case cst.SimpleStatementLine(body=small):
                yield from small
            case cst.With(body=inner) | cst.For(body=inner) | cst.Try(body=inner):
                yield from _in_each_round(inner)
