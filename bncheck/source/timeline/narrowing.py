"""What the outcome of a test says about what runs beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import libcst as cst

from bncheck.source.timeline import expressions
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Models, ModeOf, Opaque, Outside

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


def evaluates(run: Run, test: cst.BaseExpression) -> bool | None:
    """Return the outcome of a test of `self.training` beside which nothing trains."""
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            outcome = evaluates(run, inner)
            return None if outcome is None else not outcome
        case cst.Attribute(attr=cst.Name(value="training")):
            return False if isinstance(expressions.evaluate(run, test), ModeOf) else None
    return None


def leaves_where_it_trains(run: Run, node: cst.If) -> bool:
    """Tell whether a function returns where a network trains: what follows then evaluates."""
    match node:
        case cst.If(body=cst.IndentedBlock(body=[*_, cst.SimpleStatementLine(body=[*_, last])])):
            return isinstance(last, cst.Return) and evaluates(run, node.test) is False
    return False


@contextmanager
def evaluating(run: Run, evaluated: bool) -> Iterator[None]:
    """Let what runs inside know whether a network is in eval mode there."""
    before = run.frame.evaluates
    run.frame.evaluates = before or evaluated
    try:
        yield
    finally:
        run.frame.evaluates = before
