"""What `isinstance` says of lists, networks and constants, as far as it can be known."""

from __future__ import annotations

import libcst as cst

from bncheck.source.timeline import expressions
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Constant, Container, Models, Opaque, Outside, Value

_PLAIN: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "bytes": bytes}
_LISTS = frozenset({"list", "tuple"})
_NO_NETWORKS = frozenset({*_PLAIN, *_LISTS, "dict", "set", "frozenset"})


def is_instance(run: Run, node: cst.Call) -> Value:
    """Evaluate `isinstance(value, kinds)` for the built-in kinds.

    A list is not told from a tuple, so a test for tuples alone stays open.
    """
    match node.args:
        case [cst.Arg(value=cst.Name(value=name)), cst.Arg(value=kind)]:
            value = run.frame.names.get(name)
        case _:
            return Opaque()
    if not isinstance(value, Container | Models | Constant):
        return Opaque()
    kinds = [e.value for e in kind.elements] if isinstance(kind, cst.Tuple) else [kind]
    evaluated = [expressions.evaluate(run, asked) for asked in kinds]
    names = {asked.name for asked in evaluated if isinstance(asked, Outside)}
    if len(names) < len(kinds) or not names <= _NO_NETWORKS:
        return Opaque()
    match value:
        case Container(keys=None):
            if "list" in names:
                return Constant(True)
            return Opaque() if "tuple" in names else Constant(False)
        case Container():
            return Constant("dict" in names)
        case Constant(value=plain, fixed=fixed):
            asked_for = tuple(_PLAIN[kind] for kind in names & _PLAIN.keys())
            return Constant(isinstance(plain, asked_for), fixed)
    return Constant(False)
