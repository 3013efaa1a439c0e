"""Where a line can be put so that it is run before a network is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import libcst as cst

from bncheck.events import Model
from bncheck.graph import Site
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import assigned, identifiers, mentions

_TRAINS = frozenset({"backward", "train", "step"})


@contextmanager
def around(run: Run, node: cst.CSTNode) -> Iterator[None]:
    """Note that a loop or `with` statement is around what runs."""
    blocks = run.frame.around
    blocks.append((node, len(run.models)))
    try:
        yield
    finally:
        blocks.pop()


def place_before(run: Run, model: Model, name: str) -> Site | None:
    """Return the statement to put a line for a model before; None: there is no line of its own.

    That is the outermost block around which does not train, if the model was made before it and
    had the name there.
    """
    if run.statement is None:
        return None
    while model.parent is not None:
        model = model.parent
    for node, made in run.frame.around:
        if (
            model in run.models[:made]
            and mentions(node).isdisjoint(_TRAINS)
            and name.partition(".")[0] not in _bound(node)
        ):
            return run.site(node)
    return run.site(run.statement)


def _bound(node: cst.CSTNode) -> frozenset[str]:
    """Return the names that a block's statements, or its `with ... as`, bind."""
    items = node.items if isinstance(node, cst.With) else ()
    given = (identifiers(item.asname.name) for item in items if item.asname is not None)
    return assigned(node).union(*given)
