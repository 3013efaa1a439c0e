"""Evaluates expressions while a script is followed."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import libcst as cst

from bncheck.graph import UNKNOWN
from bncheck.source.literals import literal
from bncheck.source.timeline import (
    accessors,
    attributes,
    calls,
    choices,
    containers,
    defaults,
    loops,
    operators,
    options,
    shares,
    statements,
    strings,
)
from bncheck.source.timeline.joining import join
from bncheck.source.timeline.run import EACH, Run
from bncheck.source.timeline.syntax import identifiers, last_name, targets
from bncheck.source.timeline.values import (
    NONE,
    Constant,
    Container,
    Data,
    Function,
    Instance,
    Members,
    Models,
    Opaque,
    Outside,
    Package,
    Settings,
    StateDict,
    Tensor,
    Value,
    Weights,
    truth,
)
from bncheck.timeline import Loop

_BUILTINS = frozenset(dir(builtins))


def evaluate(run: Run, node: cst.BaseExpression) -> Value:
    """Return what an expression stands for; what it does to models goes to the run's steps."""
    evaluator = _EVALUATORS.get(node.__class__)
    return Opaque() if evaluator is None else evaluator(run, node)


def _name(run: Run, name: str) -> Value:
    match name:
        case "True" | "False":
            return Constant(name == "True")
        case "None":
            return NONE
        case "__name__":
            return Constant("__name__", fixed=False)
    value = run.look_up(name)
    if value is not None:
        return value
    return Outside(name) if name in _BUILTINS else Opaque(name)


def _dict(run: Run, entries: Sequence[cst.BaseDictElement]) -> Value:
    keys: list[object] = []
    values: list[Value] = []
    for entry in entries:
        value = evaluate(run, entry.value)
        if isinstance(entry, cst.DictElement):
            constant = evaluate(run, entry.key)
            keys.append(constant.value if isinstance(constant, Constant) else UNKNOWN)
            values.append(value)
        elif (held := options.entries(run, value)) is not None:
            keys += held.keys()
            values += held.values()
        else:
            keys.append(UNKNOWN)
            values.append(value)
    return Container(tuple(values), tuple(keys)).with_last_ones()


def index(run: Run, node: cst.Subscript) -> Value:
    """Return what stands between the brackets; opaque for a slice, or the first of several."""
    first = node.slice[0].slice if node.slice else None
    return evaluate(run, first.value) if isinstance(first, cst.Index) else Opaque()


def _cut(run: Run, node: cst.Subscript, value: Constant | Container) -> Value | None:
    """Return `value[first:last]` where both ends are known; None for any other subscript."""
    part = node.slice[0].slice if node.slice else None
    if not isinstance(part, cst.Slice) or part.step is not None:
        return None
    first, last = (None if e is None else evaluate(run, e) for e in (part.lower, part.upper))
    return strings.cut(value, first, last)


def _subscript(run: Run, node: cst.Subscript) -> Value:
    value, chosen = evaluate(run, node.value), index(run, node)
    if isinstance(value, Constant | Container) and (part := _cut(run, node, value)) is not None:
        return part
    match value, chosen:
        case Container(elements=elements, keys=None), Constant(value=int(position)):
            return elements[position] if -len(elements) <= position < len(elements) else Opaque()
        case Container(elements=elements, keys=keys), Constant(value=key) if keys is not None:
            if key in keys or not chosen.fixed:
                return choices.of_container(run, value, chosen)
            return Opaque(holds=tuple(run.reachable(value)))
        case Container(elements=elements), _ if elements:
            return choices.of_container(run, value, chosen)
        case Package(), _:
            return choices.of_package(run, value, chosen, last_name(node.slice[0].slice))
        case Settings(), Constant(value=str(name)):
            return attributes.attribute(run, value, name, node)
        case Instance(), _:
            return accessors.item(run, node, value, chosen)
        case Members(), _:
            return shares.sliced(value, node)
        case Weights() | StateDict(), _:
            return value
        case Tensor(), Constant(value=None) | Outside(name="numpy.newaxis"):
            return value.of_size(1)
        case Opaque(model=None), Constant(value=None) | Outside(name="numpy.newaxis"):
            return Tensor(1)
        case Tensor(), _:
            return value.of_size(UNKNOWN)
        case Data(loader=loader), _:
            return Tensor(loader=loader)
        case Models(models=[model]), _ if (bounds := shares.bounds(node)) is not None:
            return containers.sliced(run, model, bounds)
        case Models(models=[model]), Constant(value=at) if one := containers.entry(run, model, at):
            return one
        case Models(models=[model]), _:
            name = f"[{chosen.value}]" if isinstance(chosen, Constant) else EACH
            return Models((run.part(model, name),))
        case Outside(name="sys.modules"), Constant(value="__name__"):
            return Package(run.frame.module)
        case Outside(name=name), _ if name.endswith(".__dict__"):
            last = chosen.value if isinstance(chosen, Constant) else "unknown"
            return Outside(f"{name.removesuffix('__dict__')}{last}")
        case Opaque(), Constant(value=key):
            return attributes.attribute(run, value, f"[{key!r}]", node)
        case Opaque(), _:
            return Opaque(holds=value.holds)
    return Opaque()


def _conditional(run: Run, node: cst.IfExp) -> Value:
    test = evaluate(run, node.test)
    known, chosen = truth(test), defaults.outcome(test)
    if known is not None:
        return evaluate(run, node.body if known else node.orelse)
    values: list[Value] = []

    def way(expression: cst.BaseExpression) -> Callable[[], None]:
        return lambda: values.append(evaluate(run, expression))

    names = " ".join(sorted(identifiers(node.test)))
    taken = None if chosen is None else int(not chosen)
    run.branch(node, [way(node.body), way(node.orelse)], names, taken)
    if chosen is None:
        return join(values)
    defaults.instead([values[not chosen]], values)
    return join(values, values[not chosen])


def _comprehension(
    run: Run,
    node: cst.BaseExpression,
    element: cst.BaseExpression,
    loop: cst.CompFor,
    key: cst.BaseExpression | None = None,
) -> Value:
    over = evaluate(run, loop.iter)
    outer = dict(run.frame.names)
    values: list[Value] = []
    keys: list[object] = []
    if isinstance(over, Container) and not loop.ifs and len(over.elements) <= loops.UNROLLED:
        for item in over.elements:
            statements.bind(run, loop.target, item)
            values.append(evaluate(run, element))
            if key is not None:
                constant = evaluate(run, key)
                keys.append(constant.value if isinstance(constant, Constant) else UNKNOWN)
        run.frame.names = outer
        return Container(tuple(values), tuple(keys) if key is not None else None)
    with run.block() as steps:
        statements.bind(run, loop.target, loops.one_of(run, over, loop.target))
        inner = loop.inner_for_in
        value = (
            evaluate(run, element) if inner is None else _comprehension(run, node, element, inner)
        )
    run.frame.names = outer
    if steps:
        loader = over.loader if isinstance(over, Data) else None
        names = " ".join(sorted(identifiers(loop.iter)))
        binds = frozenset(targets(loop.target))
        run.emit(Loop(run.site(node), tuple(steps), loader, names, binds=binds))
    match value:
        case Members():
            return replace(value, one=False, part=value.part or bool(loop.ifs))
        case Data() | Weights():
            return value
    return (
        Container((value,))
        if isinstance(value, Models | Instance)
        else Opaque(holds=tuple(run.reachable(value)))
    )


def _operation(run: Run, node: cst.UnaryOperation) -> Value:
    value = evaluate(run, node.expression)
    match node.operator:
        case cst.Not():
            known = truth(value)
            if known is None and isinstance(value, Constant):
                return Constant(not value.value, fixed=False)
            return Opaque() if known is None else Constant(not known)
        case cst.Minus():
            if isinstance(value, Constant) and isinstance(value.value, int | float):
                return Constant(-value.value, value.fixed)
            return value if isinstance(value, Tensor) else Opaque()
    return Opaque()


def _comparison(run: Run, node: cst.Comparison) -> Value:
    left = evaluate(run, node.left)
    rights = [evaluate(run, comparison.comparator) for comparison in node.comparisons]
    if len(rights) != 1:
        return Opaque()
    return operators.compare(left, node.comparisons[0].operator, rights[0])


def _joined_text(node: cst.ConcatenatedString) -> Value:
    text = node.evaluated_value
    return Opaque() if text is None else Constant(text)


def _named(run: Run, node: cst.NamedExpr) -> Value:
    result = evaluate(run, node.value)
    statements.bind(run, node.target, result)
    return result


def _yielded(run: Run, node: cst.Yield) -> Value:
    if isinstance(node.value, cst.BaseExpression):
        evaluate(run, node.value)
    return Opaque()


def _sequence(run: Run, node: cst.Tuple | cst.List | cst.Set) -> Value:
    return Container(tuple(evaluate(run, element.value) for element in node.elements))


def _attribute(run: Run, node: cst.Attribute) -> Value:
    if node.attr.value == "shape" and isinstance(node.value, cst.Call):
        run.discarded = node.value
    return attributes.attribute(run, evaluate(run, node.value), node.attr.value, node)


def _binary(run: Run, node: cst.BinaryOperation) -> Value:
    left, right = evaluate(run, node.left), evaluate(run, node.right)
    many = operators.for_each_device(node, left, right)
    return many or operators.binary(left, node.operator, right)


_EVALUATORS: dict[type[cst.CSTNode], Callable[[Run, Any], Value]] = {
    cst.Name: lambda run, node: _name(run, node.value),
    cst.Attribute: lambda run, node: _attribute(run, node),
    cst.Call: lambda run, node: calls.call(run, node),
    cst.Integer: lambda run, node: Constant(literal(node)),
    cst.Float: lambda run, node: Constant(literal(node)),
    cst.SimpleString: lambda run, node: Constant(literal(node)),
    cst.ConcatenatedString: lambda run, node: _joined_text(node),
    cst.Tuple: _sequence,
    cst.List: _sequence,
    cst.Set: _sequence,
    cst.Dict: lambda run, node: _dict(run, node.elements),
    cst.Subscript: _subscript,
    cst.IfExp: _conditional,
    cst.BinaryOperation: _binary,
    cst.Comparison: _comparison,
    cst.BooleanOperation: lambda run, node: operators.boolean(
        evaluate(run, node.left), node.operator, evaluate(run, node.right)
    ),
    cst.UnaryOperation: _operation,
    cst.Lambda: lambda run, node: Function(node, run.frame.module, "<lambda>", outer=run.frame),
    cst.ListComp: lambda run, node: _comprehension(run, node, node.elt, node.for_in),
    cst.GeneratorExp: lambda run, node: _comprehension(run, node, node.elt, node.for_in),
    cst.SetComp: lambda run, node: _comprehension(run, node, node.elt, node.for_in),
    cst.DictComp: lambda run, node: _comprehension(run, node, node.value, node.for_in, node.key),
    cst.NamedExpr: _named,
    cst.Await: lambda run, node: evaluate(run, node.expression),
    cst.Yield: _yielded,
}
"""By the class of the node: it is looked up for each expression that is followed."""
