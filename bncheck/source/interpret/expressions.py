"""Expressions: each is turned once into a function from a frame to a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import libcst as cst

from bncheck.graph import Site
from bncheck.source.interpret.attributes import attribute, item
from bncheck.source.interpret.calls import call
from bncheck.source.interpret.machine import Frame
from bncheck.source.interpret.operations import binary_operation, comparison, unary_operation
from bncheck.source.interpret.sequences import items_of, rounds_of
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Dictionary,
    External,
    Function,
    List,
    Native,
    PathEndsError,
    Super,
    is_constant,
    truth,
)
from bncheck.source.literals import literal

Evaluate = Callable[[Frame], object]


def expression(node: cst.CSTNode) -> Evaluate:
    """Turn an expression into a function that evaluates it in a frame."""
    builder = _BUILDERS.get(type(node))
    return builder(node) if builder is not None else _unknown


def _unknown(frame: Frame) -> object:
    return UNKNOWN


def _name(node: cst.Name) -> Evaluate:
    name = node.value
    if name in {"None", "True", "False"}:
        constant = {"None": None, "True": True, "False": False}[name]
        return lambda frame: constant

    def evaluate(frame: Frame) -> object:
        value = frame.names.get(name, MISSING)
        scope = frame.outer
        while value is MISSING and scope is not None:
            value = scope.names.get(name, MISSING)
            scope = scope.outer
        if value is not MISSING:
            return value
        return frame.machine.names.look_up(name, frame.machine, frame.module)

    return evaluate


def _literal(node: cst.BaseNumber | cst.SimpleString) -> Evaluate:
    try:
        constant: object = (
            literal(node)
            if isinstance(node, (cst.Integer, cst.Float, cst.SimpleString))
            else node.evaluated_value  # type: ignore[attr-defined]
        )
    except Exception:
        return _unknown
    return lambda frame: constant


def _concatenated(node: cst.ConcatenatedString) -> Evaluate:
    left, right = expression(node.left), expression(node.right)
    return lambda frame: binary_operation(frame.machine, "+", left(frame), right(frame), None)


def _formatted(node: cst.FormattedString) -> Evaluate:
    parts: list[Callable[[Frame], object]] = []
    for part in node.parts:
        if isinstance(part, cst.FormattedStringText):
            parts.append(lambda frame, text=part.value: text)  # type: ignore[misc]
        elif isinstance(part, cst.FormattedStringExpression):
            inner = expression(part.expression)
            parts.append(inner if part.format_spec is None and not part.conversion else _unknown)

    def evaluate(frame: Frame) -> object:
        values = [part(frame) for part in parts]
        if all(isinstance(value, (str, int, float, bool)) for value in values):
            return "".join(map(str, values))
        return UNKNOWN

    return evaluate


def _elements(elements: Iterable[cst.BaseElement]) -> Callable[[Frame], list[object] | None]:
    parts = [(expression(e.value), isinstance(e, cst.StarredElement)) for e in elements]

    def evaluate(frame: Frame) -> list[object] | None:
        values: list[object] = []
        for part, starred in parts:
            value = part(frame)
            if not starred:
                values.append(value)
                continue
            items = items_of(frame.machine, value)
            if items is None:
                return None
            values += items
        return values

    return evaluate


def _tuple(node: cst.Tuple) -> Evaluate:
    elements = _elements(node.elements)

    def evaluate(frame: Frame) -> object:
        values = elements(frame)
        return UNKNOWN if values is None else tuple(values)

    return evaluate


def _list(node: cst.List) -> Evaluate:
    elements = _elements(node.elements)
    return lambda frame: List(elements(frame))


def _set(node: cst.Set) -> Evaluate:
    elements = _elements(node.elements)

    def evaluate(frame: Frame) -> object:
        values = elements(frame)
        if values is None or not is_constant(tuple(values)):
            return List(values)  # of classes, say
        return frozenset(values)

    return evaluate


def _dict(node: cst.Dict) -> Evaluate:
    parts: list[tuple[Evaluate | None, Evaluate]] = [
        (expression(e.key) if isinstance(e, cst.DictElement) else None, expression(e.value))
        for e in node.elements
    ]

    def evaluate(frame: Frame) -> object:
        found: dict[object, object] | None = {}
        for key_of, value_of in parts:
            if key_of is None:
                more = value_of(frame)
                if found is not None and isinstance(more, Dictionary) and more.state is not None:
                    found.update(more.state)
                else:
                    found = None
                continue
            key, value = key_of(frame), value_of(frame)
            if found is not None and is_key(key):
                found[key] = value
            else:
                found = None
        return Dictionary(found)

    return evaluate


def is_key(value: object) -> bool:
    """Tell whether a value can be a key of an interpreted dictionary."""
    return is_constant(value) or isinstance(value, External)


def _attribute(node: cst.Attribute) -> Evaluate:
    value_of, name = expression(node.value), node.attr.value
    site: Site | None = None

    def evaluate(frame: Frame) -> object:
        nonlocal site
        if site is None:
            site = frame.site(node)
        return attribute(frame.machine, value_of(frame), name, site)

    return evaluate


def _subscript(node: cst.Subscript) -> Evaluate:
    value_of = expression(node.value)
    index_of = index(node)

    def evaluate(frame: Frame) -> object:
        return item(frame.machine, value_of(frame), index_of(frame), frame.site(node))

    return evaluate


def index(node: cst.Subscript) -> Evaluate:
    """Turn what stands between the brackets into a function: a value, a slice or a tuple."""
    parts = [_one_index(element.slice) for element in node.slice]
    if len(parts) == 1:
        return parts[0]
    return lambda frame: tuple(part(frame) for part in parts)


def _one_index(node: cst.BaseSlice) -> Evaluate:
    if isinstance(node, cst.Index):
        return expression(node.value)
    if not isinstance(node, cst.Slice):
        return _unknown
    ends = [expression(e) if e is not None else None for e in (node.lower, node.upper, node.step)]

    def evaluate(frame: Frame) -> object:
        bounds = [end(frame) if end is not None else None for end in ends]
        if all(bound is None or isinstance(bound, int) for bound in bounds):
            return slice(*cast(Any, bounds))
        return UNKNOWN

    return evaluate


def _call(node: cst.Call) -> Evaluate:
    if isinstance(node.func, cst.Name) and node.func.value == "super":
        return _super(node)
    function_of = expression(node.func)
    arguments = [(expression(a.value), a.star, a.keyword and a.keyword.value) for a in node.args]
    if not any(star for _, star, _ in arguments):
        positional = [value_of for value_of, _, keyword in arguments if not keyword]
        keywords = [(keyword, value_of) for value_of, _, keyword in arguments if keyword]
        site: Site | None = None

        def evaluate_plain(frame: Frame) -> object:
            nonlocal site
            if site is None:
                site = frame.site(node)
            function = function_of(frame)
            given = Arguments(
                [value_of(frame) for value_of in positional],
                {keyword: value_of(frame) for keyword, value_of in keywords},
            )
            return call(frame.machine, function, given, site)

        return evaluate_plain

    def evaluate(frame: Frame) -> object:
        function = function_of(frame)
        given = Arguments()
        machine = frame.machine
        for value_of, star, keyword in arguments:
            value = value_of(frame)
            if keyword:
                given.keywords[keyword] = value
            elif not star:
                given.positional.append(value)
            elif star == "*":
                items = items_of(machine, value)
                if items is None:
                    given.open = True
                    given.positional.append(UNKNOWN)
                else:
                    given.positional += items
            elif isinstance(value, Dictionary) and value.state is not None:
                given.keywords.update({k: v for k, v in value.state.items() if isinstance(k, str)})
            else:
                given.open = True
        return call(machine, function, given, frame.site(node))

    return evaluate


def _super(node: cst.Call) -> Evaluate:
    def evaluate(frame: Frame) -> object:
        scope: Frame | None = frame
        while scope is not None and scope.owner is None:
            scope = scope.outer
        if scope is None or scope.owner is None or scope.receiver is MISSING:
            return UNKNOWN
        return Super(scope.owner, scope.receiver)

    return evaluate


def _lambda(node: cst.Lambda) -> Evaluate:
    names = [p for p in (*node.params.params, *node.params.kwonly_params) if p.default is not None]
    defaults = [(p.name.value, expression(cast(Any, p.default))) for p in names]

    def evaluate(frame: Frame) -> object:
        given = {name: default(frame) for name, default in defaults}
        return Function(node, frame.module, frame, frame.owner, defaults=given)

    return evaluate


_SYMBOLS: dict[type, str] = {
    cst.Add: "+",
    cst.Subtract: "-",
    cst.Multiply: "*",
    cst.Divide: "/",
    cst.FloorDivide: "//",
    cst.Modulo: "%",
    cst.Power: "**",
    cst.MatrixMultiply: "@",
    cst.BitAnd: "&",
    cst.BitOr: "|",
    cst.BitXor: "^",
    cst.LeftShift: "<<",
    cst.RightShift: ">>",
    cst.Equal: "==",
    cst.NotEqual: "!=",
    cst.LessThan: "<",
    cst.LessThanEqual: "<=",
    cst.GreaterThan: ">",
    cst.GreaterThanEqual: ">=",
    cst.Is: "is",
    cst.IsNot: "is not",
    cst.In: "in",
    cst.NotIn: "not in",
    cst.Minus: "-",
    cst.Plus: "+",
    cst.Not: "not",
    cst.BitInvert: "~",
}


def symbol_of(operator: cst.CSTNode) -> str:
    """Return an operator as it is written, augmented ones without their `=`."""
    kind = type(operator)
    if kind in _SYMBOLS:
        return _SYMBOLS[kind]
    return _SYMBOLS.get(getattr(cst, kind.__name__.removesuffix("Assign"), kind), "?")


def _binary(node: cst.BinaryOperation) -> Evaluate:
    # A long chain of operators leans to the left: it is unrolled, so as not to recurse as deep.
    chain: list[tuple[str, Evaluate, cst.BaseExpression]] = []
    leftmost: cst.BaseExpression = node
    while isinstance(leftmost, cst.BinaryOperation):
        chain.append((symbol_of(leftmost.operator), expression(leftmost.right), leftmost))
        leftmost = leftmost.left
    first = expression(leftmost)
    chain.reverse()

    def evaluate(frame: Frame) -> object:
        value = first(frame)
        for symbol, right, place in chain:
            value = binary_operation(frame.machine, symbol, value, right(frame), frame.site(place))
        return value

    return evaluate


def _unary(node: cst.UnaryOperation) -> Evaluate:
    operand, symbol = expression(node.expression), symbol_of(node.operator)
    return lambda frame: unary_operation(frame.machine, symbol, operand(frame), frame.site(node))


def _boolean(node: cst.BooleanOperation) -> Evaluate:
    left, right = expression(node.left), expression(node.right)
    stops_at = isinstance(node.operator, cst.Or)

    def evaluate(frame: Frame) -> object:
        first = left(frame)
        known = truth(first)
        if known is stops_at:
            return first
        second = right(frame)
        if known is not None:
            return second
        if truth(second) is stops_at and is_constant(second):
            return second if isinstance(second, bool) else frame.machine.join(first, second)
        if is_constant(first) or is_constant(second):
            return UNKNOWN
        return frame.machine.join(first, second)

    return evaluate


def _comparison(node: cst.Comparison) -> Evaluate:
    first = expression(node.left)
    rest = [(symbol_of(c.operator), expression(c.comparator)) for c in node.comparisons]

    def evaluate(frame: Frame) -> object:
        left = first(frame)
        result: object = True
        for symbol, right_of in rest:
            right = right_of(frame)
            one = comparison(frame.machine, symbol, left, right, frame.site(node))
            if one is False:
                return False
            result = one if result is True else UNKNOWN
            left = right
        return result

    return evaluate


def _conditional(node: cst.IfExp) -> Evaluate:
    test, body, orelse = expression(node.test), expression(node.body), expression(node.orelse)
    place = id(node)

    def evaluate(frame: Frame) -> object:
        known = truth(test(frame))
        if known is not None:
            frame.machine.names.taken.add((place, known))
            return body(frame) if known else orelse(frame)
        values: list[object] = []
        frame.machine.uncertain += 1
        try:
            for branch in (body, orelse):
                try:
                    values.append(branch(frame))
                except PathEndsError:
                    continue
        finally:
            frame.machine.uncertain -= 1
        if not values:
            raise PathEndsError
        return frame.machine.join_all(values)

    return evaluate


def _walrus(node: cst.NamedExpr) -> Evaluate:
    value_of = expression(node.value)
    name = node.target.value if isinstance(node.target, cst.Name) else ""

    def evaluate(frame: Frame) -> object:
        value = frame.names[name] = value_of(frame)
        return value

    return evaluate


def _comprehension(node: cst.ListComp | cst.GeneratorExp | cst.SetComp) -> Evaluate:
    element = expression(node.elt)
    loop = _comprehension_loop(node.for_in, lambda frame: element(frame))

    def evaluate(frame: Frame) -> object:
        found: list[object] = []
        complete = loop(_inner(frame), found)
        return List(found if complete else None)

    return evaluate


def _dict_comprehension(node: cst.DictComp) -> Evaluate:
    key_of, value_of = expression(node.key), expression(node.value)
    loop = _comprehension_loop(node.for_in, lambda frame: (key_of(frame), value_of(frame)))

    def evaluate(frame: Frame) -> object:
        found: list[object] = []
        complete = loop(_inner(frame), found)
        pairs = [cast(tuple[object, object], pair) for pair in found]
        if not complete or not all(is_key(key) for key, _ in pairs):
            return Dictionary(None)
        return Dictionary(dict(pairs))

    return evaluate


def _inner(frame: Frame) -> Frame:
    return Frame(frame.machine, frame.module, frame, frame.owner, frame.receiver)


def _comprehension_loop(
    node: cst.CompFor, element: Evaluate
) -> Callable[[Frame, list[object]], bool]:
    """Return a function that appends the elements; it returns False where they are not known."""
    from bncheck.source.interpret.assign import target

    bind = target(node.target)
    iterable = expression(node.iter)
    tests = [expression(condition.test) for condition in node.ifs]
    inner = _comprehension_loop(node.inner_for_in, element) if node.inner_for_in else None

    def run(frame: Frame, found: list[object]) -> bool:
        items = rounds_of(frame.machine, iterable(frame))
        known = items is not None
        for value in items if items is not None else ():
            frame.machine.step()
            bind(frame, value)
            passed = [truth(test(frame)) for test in tests]
            if False in passed:
                continue
            known = known and None not in passed
            if inner is not None:
                known = inner(frame, found) and known
            else:
                found.append(element(frame))
        return known

    return run


def _yield(node: cst.Yield) -> Evaluate:
    value = node.value
    inner = expression(value.item if isinstance(value, cst.From) else value) if value else None
    whole = isinstance(value, cst.From)

    def evaluate(frame: Frame) -> object:
        result = inner(frame) if inner is not None else None
        if frame.yields is None:
            frame.yields = []
        frame.yields += (items_of(frame.machine, result) or [UNKNOWN]) if whole else [result]
        return UNKNOWN

    return evaluate


def _await(node: cst.Await) -> Evaluate:
    return expression(node.expression)


_BUILDERS: dict[type, Callable[[Any], Evaluate]] = {
    cst.Name: _name,
    cst.Integer: _literal,
    cst.Float: _literal,
    cst.Imaginary: _literal,
    cst.SimpleString: _literal,
    cst.ConcatenatedString: _concatenated,
    cst.FormattedString: _formatted,
    cst.Ellipsis: lambda node: lambda frame: ...,
    cst.Tuple: _tuple,
    cst.List: _list,
    cst.Set: _set,
    cst.Dict: _dict,
    cst.Attribute: _attribute,
    cst.Subscript: _subscript,
    cst.Call: _call,
    cst.Lambda: _lambda,
    cst.BinaryOperation: _binary,
    cst.UnaryOperation: _unary,
    cst.BooleanOperation: _boolean,
    cst.Comparison: _comparison,
    cst.IfExp: _conditional,
    cst.NamedExpr: _walrus,
    cst.ListComp: _comprehension,
    cst.GeneratorExp: _comprehension,
    cst.SetComp: _comprehension,
    cst.DictComp: _dict_comprehension,
    cst.Yield: _yield,
    cst.Await: _await,
}

__all__ = ["Evaluate", "Native", "expression", "index", "is_key", "symbol_of"]
