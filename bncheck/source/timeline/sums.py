"""Losses that each round of a loop adds to, and that go backward once in several rounds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bncheck.events import BackwardCall
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import names_in_order


def backward(run: Run, node: cst.Call) -> BackwardCall:
    """Return the event of a backward pass.

    One over what every round has added up goes back through each of them: it waits for no count.
    """
    count = run.count
    loops = [around for around, _ in run.frame.around if isinstance(around, cst.For | cst.While)]
    if count is not None and loops and not _summed(loops[-1]).isdisjoint(names_in_order(node)):
        count = None
    return BackwardCall(run.site(node), count)


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
