"""`with` statements and decorators: gradient modes, autocast, and context managers unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import libcst as cst

from bncheck.events import Count
from bncheck.source.module import dotted
from bncheck.source.timeline import classes, expressions, statements, sums
from bncheck.source.timeline.known import CONTEXTS
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import (
    Container,
    Function,
    Models,
    Opaque,
    Outside,
    Value,
    truth,
)
from bncheck.timeline import Context, ContextKind


@dataclass(frozen=True)
class Entered:
    """One item of a `with`: a known context, or what its value may get at."""

    kind: ContextKind | None
    value: Value | None = None
    gathers: Count | None = None
    """The count by which the optimizer waits in it, as in `with accelerator.accumulate(model):`."""


_WITHOUT_GRADIENT = frozenset({"no_grad", "inference_mode"})
_RECORDS = {
    ContextKind.NO_GRAD: False,
    ContextKind.INFERENCE_MODE: False,
    ContextKind.ENABLE_GRAD: True,
}


def with_statement(run: Run, node: cst.With, body: Callable[[], None]) -> None:
    """Follow the body of a `with` inside its contexts."""
    entered: list[Entered] = []
    for item in node.items:
        one = enter(run, item.item)
        entered.append(one)
        if one.value is not None and not isinstance(one.value, Models):
            # What it does on entering is not followed: it may switch modes.
            run.escape(node, [one.value], "with")
        if item.asname is not None:
            value = one.value if one.value is not None else Opaque()
            statements.bind(run, item.asname.name, value)
    within(run, node, entered, body)


def within(
    run: Run, node: cst.CSTNode, entered: Sequence[Entered], body: Callable[[], None]
) -> None:
    """Run a body inside contexts, outermost first; unknown ones may restore modes at the end."""
    outer = run.records_gradients, run.count
    for one in entered:
        if one.kind in _RECORDS:
            run.records_gradients = _RECORDS[one.kind]
        run.count = one.gathers or run.count
    with run.block() as steps:
        body()
    run.records_gradients, run.count = outer
    was_dead, run.dead = run.dead, False
    inner = tuple(steps)
    for one in reversed(entered):
        if one.kind is not None and inner:
            inner = (Context(run.site(node), one.kind, inner),)
    for step in inner:
        run.emit(step)
    for one in entered:
        if one.value is not None and not isinstance(one.value, Models):
            run.escape(node, [one.value], "with")
    run.dead = was_dead


def enter(run: Run, node: cst.BaseExpression) -> Entered:
    """Return what a `with` item is."""
    match node:
        case cst.IfExp(test=test, body=body, orelse=orelse):
            known = truth(expressions.evaluate(run, test))
            if known is not None:
                return enter(run, body if known else orelse)
            kinds = {enter(run, body).kind, enter(run, orelse).kind}
            gradient = kinds & {ContextKind.NO_GRAD, ContextKind.INFERENCE_MODE}
            return Entered(ContextKind.MAYBE_GRAD if gradient else None)
        case cst.Call(func=func):
            name = _qualified(run, func)
            kind = CONTEXTS.get(name)
            if kind is not None:
                return Entered(_resolved(run, kind, node))
            if isinstance(func, cst.Attribute) and func.attr.value in {"no_sync", "accumulate"}:
                gathers = sums.told(run, func.value, "gradient_accumulation_steps")
                return Entered(ContextKind.NO_SYNC, gathers=gathers and gathers[1])
            if isinstance(func, cst.Attribute) and func.attr.value == "autocast":
                return Entered(ContextKind.AUTOCAST)
    value = expressions.evaluate(run, node)
    reached = run.reachable(value)
    return Entered(None, Container((value,)) if reached else value)


def _resolved(run: Run, kind: ContextKind, node: cst.Call) -> ContextKind:
    if kind not in {ContextKind.MAYBE_GRAD, ContextKind.INFERENCE_MODE} or not node.args:
        return kind
    known = truth(expressions.evaluate(run, node.args[0].value))
    if kind is ContextKind.INFERENCE_MODE:
        return {True: kind, False: ContextKind.ENABLE_GRAD}.get(
            known if known is not None else True, kind
        )
    if known is None:
        return kind
    return ContextKind.ENABLE_GRAD if known else ContextKind.NO_GRAD


def _qualified(run: Run, func: cst.BaseExpression) -> str:
    name = dotted(func)
    if name is None:
        return ""
    head = run.look_up(name.partition(".")[0])
    if isinstance(head, Outside):
        rest = name.partition(".")[2]
        return f"{head.name}.{rest}" if rest else head.name
    return ""


def own_decorator(run: Run, function: Function, name: str) -> Function | None:
    """Return the function of the project that a decorator is, by its last name.

    The `main` that `@hydra.main` decorates is none.
    """
    found = run.module_level(name, function.module)
    if not isinstance(found, Function) or found.node is function.node:
        return None
    return found if found.receiver is None else None


def of_decorators(run: Run, function: Function, code: cst.FunctionDef) -> list[Entered]:
    """Return the gradient modes that a function is decorated with."""
    found = []
    for decorator in code.decorators:
        expression = decorator.decorator
        name = _qualified(run, expression.func if isinstance(expression, cst.Call) else expression)
        kind = CONTEXTS.get(name)
        if kind is not None:
            if isinstance(expression, cst.Call):
                kind = _resolved(run, kind, expression)
            found.append(Entered(kind))
    for name in classes.decorators(code):
        wrapper = own_decorator(run, function, name)
        if wrapper is not None and mentions(wrapper.node) & _WITHOUT_GRADIENT:
            found.append(Entered(ContextKind.NO_GRAD))
    return found


def rest_of_body(run: Run, statement: cst.CSTNode) -> Entered | None:
    """Return the mode that `torch.set_grad_enabled(False)` sets for what comes after it."""
    if statement.__class__ is not cst.SimpleStatementLine:
        return None
    match statement:
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.Call(func=func) as call)]):
            last = func.attr.value if isinstance(func, cst.Attribute) else ""
            if last == "set_grad_enabled" and CONTEXTS.get(_qualified(run, func)):
                return Entered(_resolved(run, ContextKind.MAYBE_GRAD, call))
    return None
