"""Follows loops that make attributes of a dict's entries: `setattr(self, key, value)` for each."""

from __future__ import annotations

import libcst as cst

from bncheck.source.timeline import expressions, options
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import Container, Instance, Settings
from bncheck.source.walk import walk_kinds


def spread(run: Run, node: cst.For) -> bool:
    """Follow such a loop over known entries; False: it is another one, or they are not known.

    A dict among the entries becomes an object of the same kind, as classes of settings make it.
    """
    match node:
        case cst.For(
            target=cst.Tuple(
                elements=[
                    cst.Element(value=cst.Name(value=key)),
                    cst.Element(value=cst.Name(value=each)),
                ]
            ),
            iter=cst.Call(func=cst.Attribute(value=source, attr=cst.Name(value="items"))),
        ):
            owner = _owner(node.body, key, each)
        case _:
            return False
    if owner is None:
        return False
    with run.block():  # Only a look: where it shows nothing, the loop is followed as any other.
        entries = options.entries(run, expressions.evaluate(run, source))
    made = expressions.evaluate(run, owner) if entries else None
    for name, value in (entries or {}).items():
        held = options.nested(run, value) if isinstance(value, Container) else value
        match made:
            case Instance():
                run.heap.set(made, name, held)
            case Settings():
                options.put(run, made, name, held)
            case _:
                return False
    return made is not None


def _owner(body: cst.BaseSuite, key: str, each: str) -> cst.BaseExpression | None:
    """Return what a loop's only `setattr` sets attributes of."""
    found = [call for call in walk_kinds(body, (cst.Call,)) if _is_setattr(call)]
    match found:
        case [cst.Call(args=[owner, name, value])]:
            if isinstance(name.value, cst.Name) and name.value.value == key:
                return owner.value if each in identifiers(value.value) else None
    return None


def _is_setattr(call: cst.Call) -> bool:
    return isinstance(call.func, cst.Name) and call.func.value == "setattr"
