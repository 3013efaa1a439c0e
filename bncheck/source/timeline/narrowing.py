"""What a test of a name's type leaves of what it may stand for."""

from __future__ import annotations

import libcst as cst

from bncheck.source.timeline import expressions
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Models, Opaque, Outside

_NO_NETWORKS = frozenset(
    """
    str bytes int float bool type functools.partial pathlib.Path os.PathLike torch.Tensor
    types.FunctionType types.MethodType
    """.split()  # noqa: SIM905
)


def no_network(run: Run, test: cst.BaseExpression) -> tuple[str, bool] | None:
    """Return a name that is no network if a test has the outcome beside it; None: there is none.

    `isinstance(model, functools.partial)` is true of what makes a network, and of no network.
    """
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            found = no_network(run, inner)
            return (found[0], not found[1]) if found is not None else None
        case cst.Call(
            func=cst.Name(value="isinstance"),
            args=[cst.Arg(value=cst.Name(value=name)), cst.Arg(value=asked)],
        ) if isinstance(run.frame.names.get(name), Models):
            kinds = [e.value for e in asked.elements] if isinstance(asked, cst.Tuple) else [asked]
            values = [expressions.evaluate(run, kind) for kind in kinds]
            if all(isinstance(v, Outside) and v.name in _NO_NETWORKS for v in values):
                return name, True
    return None


def forget(run: Run, found: tuple[str, bool] | None, outcome: bool) -> None:
    """Forget the network that a name stands for where a test has this outcome."""
    if found is not None and found[1] is outcome:
        run.frame.names[found[0]] = Opaque()
