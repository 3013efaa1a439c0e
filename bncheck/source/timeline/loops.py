"""Follows loops: over a model's members, over a loader's batches, over anything else."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from bncheck.events import Number
from bncheck.graph import UNKNOWN
from bncheck.source.module import dotted
from bncheck.source.timeline import averages, containers, expressions, spread, statements, turning
from bncheck.source.timeline.joining import join
from bncheck.source.timeline.run import EACH, Run
from bncheck.source.timeline.syntax import assigned, names_in_order, targets
from bncheck.source.timeline.values import (
    Constant,
    Container,
    Data,
    Instance,
    Members,
    Models,
    Opaque,
    Tensor,
    Value,
    Weights,
)
from bncheck.source.walk import inside, walk_kinds
from bncheck.timeline import Loop

UNROLLED = 8
"""Loops over at most so many known elements are followed element by element."""


def for_loop(run: Run, node: cst.For) -> None:
    """Follow a `for` loop."""
    pair = averages.paired(run, node)
    if pair is not None:
        averages.run_pair(run, node, pair, lambda: statements.run_body(run, node.body.body))
        run.dead = False
        return
    if spread.spread(run, node):
        return
    over = expressions.evaluate(run, node.iter)
    if isinstance(over, Members) and not over.one:
        outer, run.over_members = run.over_members, True
        one = replace(over, one=True)
        statements.bind(run, node.target, one)
        flags = turning.begin(run, node, one)
        statements.run_body(run, node.body.body)
        turning.end(run, flags)
        run.dead, run.over_members = False, outer
        return
    _forget_constants(run, node.body)
    if (
        isinstance(over, Container)
        and over.keys is None
        and 0 < len(over.elements) <= UNROLLED
        and all(map(_is_followed_apart, over.elements))
        and not _leaves_a_round(node.body)
    ):
        for element in over.elements:
            statements.bind(run, node.target, element)
            statements.run_body(run, node.body.body)
        return
    with run.round() as steps:
        statements.bind(run, node.target, one_of(run, over, node.target))
        statements.run_body(run, node.body.body)
    run.dead = False
    loader = over.loader if isinstance(over, Data) else None
    chosen = _chosen(run, node.iter) or ("" if loader is not None else _phase(run))
    over_names, times = _over(node.iter) + chosen, _times(run, node.iter)
    binds = assigned(node.body).union(targets(node.target))
    loop = Loop(run.site(node), tuple(steps), loader, over_names, times, binds)
    _emit_loop(run, node, loop)
    if node.orelse is not None:
        statements.run_body(run, node.orelse.body.body)


def _leaves_a_round(body: cst.CSTNode) -> bool:
    """Tell whether a loop's own `break` or `continue` is in its body, and not only an inner one's.

    What stands in the `else` of an inner loop is the outer one's.
    """
    for part in inside(body):
        match part:
            case cst.Break() | cst.Continue():
                return True
            case cst.For(orelse=orelse) | cst.While(orelse=orelse):
                if orelse is not None and _leaves_a_round(orelse):
                    return True
            case cst.BaseExpression() | cst.FunctionDef() | cst.ClassDef():
                pass
            case _ if _leaves_a_round(part):
                return True
    return False


def _is_followed_apart(element: Value) -> bool:
    """Tell whether a loop does something of its own to an element, or to what is in its tuple."""
    if isinstance(element, Container):
        return any(isinstance(part, Models | Instance | Data) for part in element.elements)
    return isinstance(element, Models | Constant | Instance | Data)


def while_loop(run: Run, node: cst.While) -> None:
    """Follow a `while` loop."""
    _forget_constants(run, node.body)
    with run.round() as steps:
        expressions.evaluate(run, node.test)
        statements.run_body(run, node.body.body)
    run.dead = False
    _emit_loop(run, node, Loop(run.site(node), tuple(steps), None, _over(node.test)))


def _emit_loop(run: Run, node: cst.CSTNode, loop: Loop) -> None:
    if loop.steps:
        run.emit(loop)


def _times(run: Run, over: cst.BaseExpression) -> Number:
    match over:
        case cst.Call(func=cst.Name(value="range"), args=[only]):
            return run.number(only.value)
    return UNKNOWN


def _chosen(run: Run, node: cst.BaseExpression) -> str:
    """Return the text that a name stands for: `loaders[phase]` where the phase is `"val"`."""
    match node:
        case cst.Call(args=[first, *_]):
            return _chosen(run, first.value)
        case cst.Subscript(slice=[cst.SubscriptElement(slice=cst.Index(value=cst.Name(value=n)))]):
            value = run.look_up(n)
            if isinstance(value, Constant) and value.fixed and isinstance(value.value, str):
                return f" {value.value}"
    return ""


_PHASES = ("phase", "split", "stage", "subset")


def _phase(run: Run) -> str:
    """Return the phase in which a loop goes over what is not known: it may draw its batches."""
    for name in _PHASES:
        value = run.frame.names.get(name)
        if isinstance(value, Constant) and value.fixed and isinstance(value.value, str):
            return f" {value.value}"
    return ""


def _over(node: cst.BaseExpression) -> str:
    return " ".join(names_in_order(node))


def _forget_constants(run: Run, body: cst.CSTNode) -> None:
    """Forget what the loop assigns: it has another value the next time round."""
    for name in assigned(body):
        frame = run.frame.outside.get(name, run.frame)
        if isinstance(frame.names.get(name), Constant):
            frame.names[name] = Opaque(name)


def one_of(run: Run, over: Value, target: cst.BaseExpression) -> Value:
    """Return what a loop's target is while the loop goes over a value."""
    match over:
        case Members():
            return replace(over, one=True)
        case Data(loader=loader):
            return Tensor(loader.batch_size, loader=loader)
        case Weights():
            return over
        case Container(elements=elements) if elements:
            return join(list(elements))
        case Models(models=[model]):
            held = containers.entries(run, model)
            part = join(list(held)) if held else Models((run.part(model, EACH),))
            if isinstance(target, cst.Tuple):  # for position, layer in enumerate(layers)
                return Container((*(Opaque() for _ in target.elements[1:]), part))
            return part
        case Opaque():
            return Opaque(dotted(target) or "", holds=over.holds)
    return Opaque()


def begin_iterators(run: Run, node: cst.Try | cst.TryStar) -> None:
    """Follow `except: batches = iter(loader)` where the `try` asks for the first batch by failing.

    In the next round of the loop around the name is bound.
    """
    for handler in node.handlers:
        for part in walk_kinds(handler.body, (cst.Assign,)):
            match part:
                case cst.Assign(
                    targets=[cst.AssignTarget(target=cst.Name(value=name))],
                    value=cst.Call(func=cst.Name(value="iter")) as begun,
                ) if name not in run.frame.names:
                    run.frame.names[name] = expressions.evaluate(run, begun)
