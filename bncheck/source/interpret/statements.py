"""Statements: each is turned once into a function that runs it in a frame.

The function returns how the path ends: None where it goes on, else `return`, `break` or
`continue`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import libcst as cst

from bncheck.source.interpret.assign import target
from bncheck.source.interpret.attributes import attribute
from bncheck.source.interpret.classes import function_kind, make_class
from bncheck.source.interpret.containers import is_sequence, remove_item
from bncheck.source.interpret.dispatch import expression
from bncheck.source.interpret.initialisers import builds_nothing, initialiser
from bncheck.source.interpret.layers import CONTAINERS
from bncheck.source.interpret.loops import for_loop, while_loop
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.matching import match_statement
from bncheck.source.interpret.operations import binary_operation
from bncheck.source.interpret.operators import symbol_of
from bncheck.source.interpret.paths import fork
from bncheck.source.interpret.problems import PathEndsError, PlaceholderError
from bncheck.source.interpret.sequences import delete_item
from bncheck.source.interpret.subscripts import index
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Class,
    Dictionary,
    Either,
    External,
    Function,
    Instance,
    List,
    ModuleReference,
    Native,
    truth,
)
from bncheck.source.module import imports

Run = Callable[[Frame], "str | None"]


def block(node: cst.BaseSuite) -> Run:
    """Turn a suite into a function that runs it."""
    return sequence(node.body)


def sequence(statements: Iterable[cst.CSTNode]) -> Run:
    """Turn statements in a row into one function, which counts one step for each."""
    runs: list[Run] = []
    for statement in statements:
        if isinstance(statement, cst.SimpleStatementLine):
            runs += [run for small in statement.body if (run := _statement(small)) is not None]
        elif (run := _statement(statement)) is not None:
            runs.append(run)

    def execute(frame: Frame) -> str | None:
        step = frame.machine.step
        for run in runs:
            step()
            status = run(frame)
            if status is not None:
                return status
        return None

    return execute


def _statement(node: cst.CSTNode) -> Run | None:
    builder = _BUILDERS.get(type(node))
    return None if builder is None else builder(node)


def _expression(node: cst.Expr) -> Run | None:
    if isinstance(node.value, (cst.SimpleString, cst.ConcatenatedString, cst.Ellipsis)):
        return None
    value_of = expression(node.value)
    function_of = initialiser(node.value)

    def run(frame: Frame) -> None:
        if (
            function_of is not None
            and frame.machine.graph is None
            and builds_nothing(function_of(frame))
        ):
            return
        value_of(frame)

    return run


def _assign(node: cst.Assign) -> Run:
    value_of = expression(node.value)
    targets = [target(t.target) for t in node.targets]

    def run(frame: Frame) -> None:
        value = value_of(frame)
        for bind in targets:
            bind(frame, value)

    return run


def _annotated(node: cst.AnnAssign) -> Run | None:
    if node.value is None:
        return None
    value_of, bind = expression(node.value), target(node.target)

    def run(frame: Frame) -> None:
        bind(frame, value_of(frame))

    return run


def _augmented(node: cst.AugAssign) -> Run:
    old_of, value_of = expression(node.target), expression(node.value)
    bind, symbol = target(node.target), symbol_of(node.operator)

    def run(frame: Frame) -> None:
        old, value = old_of(frame), value_of(frame)
        if symbol == "+" and (isinstance(old, List) or is_sequence(old)):
            extend = attribute(frame.machine, old, "extend", None)
            if isinstance(extend, Native):
                extend.run(frame.machine, Arguments([value]), None)
                return
        bind(frame, binary_operation(frame.machine, symbol, old, value, frame.site(node)))

    return run


def _return(node: cst.Return) -> Run:
    value_of = expression(node.value) if node.value is not None else lambda frame: None

    def run(frame: Frame) -> str:
        frame.returned = value_of(frame)
        return "return"

    return run


def _raise(node: cst.Raise) -> Run:
    raised = node.exc.func if isinstance(node.exc, cst.Call) else node.exc
    is_placeholder = isinstance(raised, cst.Name) and raised.value == "NotImplementedError"
    problem = PlaceholderError if is_placeholder else PathEndsError

    def run(frame: Frame) -> str:
        raise problem

    return run


def _delete(node: cst.Del) -> Run | None:
    if not isinstance(node.target, cst.Tuple):
        return _removal(node.target)
    removals = [run for e in node.target.elements if (run := _removal(e.value)) is not None]

    def run_all(frame: Frame) -> None:
        for run in removals:
            run(frame)

    return run_all


def _removal(node: cst.BaseExpression) -> Run | None:
    """Turn one target of a `del` into a function that removes it; names stay as they are."""
    if isinstance(node, cst.Attribute):
        owner_of, name = expression(node.value), node.attr.value

        def remove_attribute(frame: Frame) -> None:
            owner = owner_of(frame)
            if isinstance(owner, Instance):
                frame.machine.change(owner)
                owner.state.pop(name, None)

        return remove_attribute
    if isinstance(node, cst.Subscript):
        owner_of, place_of = expression(node.value), index(node)

        def remove(frame: Frame) -> None:
            owner, place = owner_of(frame), place_of(frame)
            if isinstance(owner, (List, Dictionary)):
                delete_item(frame.machine, owner, place)
            elif isinstance(owner, Instance) and owner.base in CONTAINERS:
                remove_item(frame.machine, owner, place)

        return remove
    return None


def _if(node: cst.If) -> Run:
    test, body = expression(node.test), block(node.body)
    orelse: Run = lambda frame: None  # noqa: E731
    if isinstance(node.orelse, cst.If):
        orelse = _if(node.orelse)
    elif node.orelse is not None:
        orelse = block(node.orelse.body)
    narrow, place = _narrowing(node.test), id(node)

    def run(frame: Frame) -> str | None:
        known = truth(test(frame))
        if known is not None:
            frame.machine.names.taken.add((place, known))
            return body(frame) if known else orelse(frame)

        def on_true(frame: Frame) -> str | None:
            narrow(frame, True)
            return body(frame)

        def on_false(frame: Frame) -> str | None:
            narrow(frame, False)
            return orelse(frame)

        return fork(frame, [on_true, on_false])

    return run


def _narrowing(test: cst.BaseExpression) -> Callable[[Frame, bool], None]:
    """Return a function that drops what a local name cannot be in one branch of a test."""
    name: str | None = None
    none_when = False
    match test:
        case cst.Name():
            name = test.value
        case cst.UnaryOperation(operator=cst.Not(), expression=cst.Name() as inner):
            name, none_when = inner.value, True
        case cst.Comparison(
            left=cst.Name() as inner,
            comparisons=[
                cst.ComparisonTarget(
                    operator=(cst.Is() | cst.IsNot()) as operator,
                    comparator=cst.Name(value="None"),
                )
            ],
        ):
            name, none_when = inner.value, isinstance(operator, cst.Is)
    if name is None:
        return lambda frame, branch: None

    def narrow(frame: Frame, branch: bool) -> None:
        value = frame.names.get(name, MISSING)
        if not isinstance(value, Either):
            return
        kept = [option for option in value.options if (option is None) is (branch is none_when)]
        if kept:
            frame.names[name] = kept[0] if len(kept) == 1 else Either(tuple(kept))

    return narrow


def _try(node: cst.Try | cst.TryStar) -> Run:
    body = block(node.body)
    handlers = [block(handler.body) for handler in node.handlers]
    orelse = block(node.orelse.body) if node.orelse is not None else None
    final = block(node.finalbody.body) if node.finalbody is not None else None

    def run(frame: Frame) -> str | None:
        try:
            status = body(frame)
        except PathEndsError:
            if not handlers:
                raise
            status = fork(frame, handlers)
        else:
            if status is None and orelse is not None:
                status = orelse(frame)
        if final is not None:
            ended = final(frame)
            status = ended if ended is not None else status
        return status

    return run


def _with(node: cst.With) -> Run:
    items = [
        (expression(item.item), target(item.asname.name) if item.asname is not None else None)
        for item in node.items
    ]
    body = block(node.body)

    def run(frame: Frame) -> str | None:
        for value_of, bind in items:
            value = value_of(frame)
            if bind is not None:
                bind(frame, UNKNOWN if isinstance(value, External) else value)
        return body(frame)

    return run


def _function(node: cst.FunctionDef) -> Run | None:
    kind = function_kind(node)
    if kind in {"setter", "overload"}:
        return None
    make = function_maker(node)

    def run(frame: Frame) -> None:
        frame.names[node.name.value] = make(frame)

    return run


def function_maker(node: cst.FunctionDef) -> Callable[[Frame], Function]:
    """Turn a function's definition into what evaluates its defaults and makes the function."""
    kind = function_kind(node)
    every = (*node.params.posonly_params, *node.params.params, *node.params.kwonly_params)
    defaults = [(p.name.value, expression(p.default)) for p in every if p.default is not None]

    def make(frame: Frame) -> Function:
        given = {name: default(frame) for name, default in defaults}
        return Function(node, frame.module, frame, None, MISSING, given, kind)

    return make


def _class(node: cst.ClassDef) -> Run:
    def run(frame: Frame) -> None:
        frame.names[node.name.value] = make_class(frame, node)

    return run


def _import(node: cst.Import | cst.ImportFrom) -> Run:
    def run(frame: Frame) -> None:
        machine, module = frame.machine, frame.module
        for name, imported in imports(node, module.name, module.is_package):
            origin = machine.names.project.find(imported.module, module)
            if name == "*":
                continue
            if origin is None:
                parts = (imported.module, imported.attribute)
                frame.names[name] = External(".".join(part for part in parts if part))
            elif imported.attribute is None:
                frame.names[name] = ModuleReference(origin)
            else:
                reference = ModuleReference(origin)
                frame.names[name] = machine.names.member(reference, imported.attribute, machine)

    return run


_BUILDERS: dict[type, Callable[[Any], Run | None]] = {
    cst.Expr: _expression,
    cst.Assign: _assign,
    cst.AnnAssign: _annotated,
    cst.AugAssign: _augmented,
    cst.Return: _return,
    cst.Raise: _raise,
    cst.Del: _delete,
    cst.Break: lambda node: lambda frame: "break",
    cst.Continue: lambda node: lambda frame: "continue",
    cst.If: _if,
    cst.For: lambda node: for_loop(node, block),
    cst.While: lambda node: while_loop(node, block),
    cst.Match: lambda node: match_statement(node, block),
    cst.Try: _try,
    cst.TryStar: _try,
    cst.With: _with,
    cst.FunctionDef: _function,
    cst.ClassDef: _class,
    cst.Import: _import,
    cst.ImportFrom: _import,
}

__all__ = ["Class", "block", "sequence"]
