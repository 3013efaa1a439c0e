"""Expressions: Python's own tree -> libcst's nodes."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from typing import Any

import libcst as cst

from bncheck.source.nodes.make import attribute, maker, name
from bncheck.source.nodes.text import Text

_ONE_STRING = re.compile(
    r"(?:[bBuU]|[rR][bB]?|[bB][rR])?"
    r"(?:\"{3}[^\"\\]*(?:(?:\\.|\"(?!\"\"))[^\"\\]*)*\"{3}"
    r"|'{3}[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'{3}"
    r"|\"(?!\"\")[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'(?!'')[^'\\\n]*(?:\\.[^'\\\n]*)*'"
    r"|\"\"|'')",
    re.DOTALL,
)

_arg = maker(cst.Arg, "value", "keyword", "star")
_await = maker(cst.Await, "expression")
_binary = maker(cst.BinaryOperation, "left", "operator", "right")
_boolean = maker(cst.BooleanOperation, "left", "operator", "right")
_call = maker(cst.Call, "func", "args")
_comparison = maker(cst.Comparison, "left", "comparisons")
_comparison_target = maker(cst.ComparisonTarget, "operator", "comparator")
_conditional = maker(cst.IfExp, "test", "body", "orelse")
_dict = maker(cst.Dict, "elements")
_dict_comprehension = maker(cst.DictComp, "key", "value", "for_in")
_dict_element = maker(cst.DictElement, "key", "value")
_dict_starred = maker(cst.StarredDictElement, "value")
_element = maker(cst.Element, "value")
_for = maker(cst.CompFor, "target", "iter", "ifs", "inner_for_in", "asynchronous")
_from = maker(cst.From, "item")
_if = maker(cst.CompIf, "test")
_index = maker(cst.Index, "value", "star")
_lambda = maker(cst.Lambda, "params", "body")
_named = maker(cst.NamedExpr, "target", "value")
_param = maker(cst.Param, "name", "annotation", "default", "star")
_parameters = maker(
    cst.Parameters,
    "params",
    "star_arg",
    "kwonly_params",
    "star_kwarg",
    "posonly_params",
    "posonly_ind",
)
_slice = maker(cst.Slice, "lower", "upper", "step")
_starred = maker(cst.StarredElement, "value")
_string = maker(cst.SimpleString, "value")
_subscript = maker(cst.Subscript, "value", "slice")
_subscript_element = maker(cst.SubscriptElement, "slice")
_unary = maker(cst.UnaryOperation, "operator", "expression")
_yield = maker(cst.Yield, "value")
_annotation = maker(cst.Annotation, "annotation")

_COLLECTIONS = {
    ast.List: maker(cst.List, "elements"),
    ast.Set: maker(cst.Set, "elements"),
    ast.Tuple: maker(cst.Tuple, "elements"),
}
_COMPREHENSIONS = {
    ast.GeneratorExp: maker(cst.GeneratorExp, "elt", "for_in"),
    ast.ListComp: maker(cst.ListComp, "elt", "for_in"),
    ast.SetComp: maker(cst.SetComp, "elt", "for_in"),
}
_NUMBERS = {
    int: maker(cst.Integer, "value"),
    float: maker(cst.Float, "value"),
    complex: maker(cst.Imaginary, "value"),
}
_KINDS: dict[type, type[Any]] = {
    ast.Add: cst.Add,
    ast.Sub: cst.Subtract,
    ast.Mult: cst.Multiply,
    ast.Div: cst.Divide,
    ast.FloorDiv: cst.FloorDivide,
    ast.Mod: cst.Modulo,
    ast.Pow: cst.Power,
    ast.MatMult: cst.MatrixMultiply,
    ast.LShift: cst.LeftShift,
    ast.RShift: cst.RightShift,
    ast.BitAnd: cst.BitAnd,
    ast.BitOr: cst.BitOr,
    ast.BitXor: cst.BitXor,
    ast.And: cst.And,
    ast.Or: cst.Or,
    ast.Not: cst.Not,
    ast.USub: cst.Minus,
    ast.UAdd: cst.Plus,
    ast.Invert: cst.BitInvert,
    ast.Eq: cst.Equal,
    ast.Lt: cst.LessThan,
    ast.LtE: cst.LessThanEqual,
    ast.Gt: cst.GreaterThan,
    ast.GtE: cst.GreaterThanEqual,
    ast.Is: cst.Is,
    ast.IsNot: cst.IsNot,
    ast.In: cst.In,
    ast.NotIn: cst.NotIn,
}
_OPERATORS: dict[type, cst.CSTNode] = {kind: maker(found)() for kind, found in _KINDS.items()}
_OPERATORS[ast.NotEq] = maker(cst.NotEqual, "value")("!=")
"""One node for each operator stands wherever it is used."""
ASYNCHRONOUS = maker(cst.Asynchronous)()
_PARAM_STAR = maker(cst.ParamStar)()
_PARAM_SLASH = maker(cst.ParamSlash)()


def expression(node: ast.expr, text: Text) -> Any:
    """Return libcst's node for an expression; raise NotConvertedError where there is none."""
    return _CONVERT.get(node.__class__, _as_libcst_has_it)(node, text)


def dotted_name(dotted: str) -> cst.Name | cst.Attribute:
    """Return the node of a name with dots in it, as imports have it."""
    first, *rest = dotted.split(".")
    node: cst.Name | cst.Attribute = name(first)
    for part in rest:
        node = attribute(node, name(part))
    return node


def arguments(node: ast.Call | ast.ClassDef, text: Text) -> list[cst.Arg]:
    """Return the arguments of a call, or the bases and keywords of a class, as they are written."""
    positional = node.args if isinstance(node, ast.Call) else node.bases
    found = [
        _arg(expression(value.value, text), None, "*")
        if value.__class__ is ast.Starred
        else _arg(expression(value, text), None, "")
        for value in positional
    ]
    for keyword in node.keywords:
        value = expression(keyword.value, text)
        if keyword.arg is None:
            found.append(_arg(value, None, "**"))
        else:
            found.append(_arg(value, name(keyword.arg), ""))
    if positional and node.keywords:
        every: list[Any] = [*positional, *node.keywords]
        given = [(part.lineno, part.col_offset) for part in every]
        if given != sorted(given):
            order = sorted(range(len(given)), key=given.__getitem__)
            found = [found[place] for place in order]
    return found


def parameters(node: ast.arguments, text: Text) -> cst.Parameters:
    """Return the parameters of a function or lambda."""
    every = [*node.posonlyargs, *node.args]
    defaults = [None] * (len(every) - len(node.defaults)) + node.defaults
    listed = tuple(
        _parameter(each, default, "", text) for each, default in zip(every, defaults, strict=True)
    )
    keyword_only = tuple(
        _parameter(each, default, "", text)
        for each, default in zip(node.kwonlyargs, node.kw_defaults, strict=True)
    )
    star: object = cst.MaybeSentinel.DEFAULT
    if node.vararg is not None:
        star = _parameter(node.vararg, None, "*", text)
    elif keyword_only:
        star = _PARAM_STAR
    first = len(node.posonlyargs)
    return _parameters(
        listed[first:],
        star,
        keyword_only,
        None if node.kwarg is None else _parameter(node.kwarg, None, "**", text),
        listed[:first],
        _PARAM_SLASH if first else cst.MaybeSentinel.DEFAULT,
    )


def annotation(node: ast.expr | None, text: Text) -> cst.Annotation | None:
    """Return an annotation."""
    return None if node is None else _annotation(expression(node, text))


def _as_libcst_has_it(node: Any, text: Text) -> cst.BaseExpression:
    return text.expression(node)


def _parameter(node: ast.arg, default: ast.expr | None, star: str, text: Text) -> cst.Param:
    return _param(
        name(node.arg),
        annotation(node.annotation, text),
        None if default is None else expression(default, text),
        star,
    )


def _elements(values: Sequence[ast.expr], text: Text) -> tuple[cst.BaseElement, ...]:
    return tuple(
        [
            _starred(expression(value.value, text))
            if isinstance(value, ast.Starred)
            else _element(expression(value, text))
            for value in values
        ]
    )


def _convert_attribute(node: Any, text: Text) -> cst.BaseExpression:
    return attribute(expression(node.value, text), name(node.attr))


def _convert_call(node: Any, text: Text) -> cst.BaseExpression:
    return _call(expression(node.func, text), tuple(arguments(node, text)))


def _convert_constant(node: Any, text: Text) -> cst.BaseExpression:
    value = node.value
    make = _NUMBERS.get(value.__class__)
    if make is not None:
        return make(text.of(node))
    if value is None or value is True or value is False:
        return name(str(value))
    if value is ...:
        return _ellipsis()
    written = text.of(node)
    return _string(written) if _ONE_STRING.fullmatch(written) else text.expression(node)


_ellipsis = maker(cst.Ellipsis)


def _convert_binary(node: Any, text: Text) -> cst.BaseExpression:
    return _binary(
        expression(node.left, text), _OPERATORS[node.op.__class__], expression(node.right, text)
    )


def _convert_boolean(node: Any, text: Text) -> cst.BaseExpression:
    kind = _OPERATORS[node.op.__class__]
    made = expression(node.values[0], text)
    for value in node.values[1:]:
        made = _boolean(made, kind, expression(value, text))
    found: cst.BaseExpression = made
    return found


def _convert_unary(node: Any, text: Text) -> cst.BaseExpression:
    return _unary(_OPERATORS[node.op.__class__], expression(node.operand, text))


def _convert_comparison(node: Any, text: Text) -> cst.BaseExpression:
    compared = tuple(
        _comparison_target(_OPERATORS[kind.__class__], expression(value, text))
        for kind, value in zip(node.ops, node.comparators, strict=True)
    )
    return _comparison(expression(node.left, text), compared)


def _convert_conditional(node: Any, text: Text) -> cst.BaseExpression:
    return _conditional(
        expression(node.test, text), expression(node.body, text), expression(node.orelse, text)
    )


def _convert_collection(node: Any, text: Text) -> cst.BaseExpression:
    return _COLLECTIONS[node.__class__](_elements(node.elts, text))


def _convert_dict(node: Any, text: Text) -> cst.BaseExpression:
    return _dict(
        tuple(
            [
                _dict_starred(expression(value, text))
                if key is None
                else _dict_element(expression(key, text), expression(value, text))
                for key, value in zip(node.keys, node.values, strict=True)
            ]
        )
    )


def _convert_comprehension(node: Any, text: Text) -> cst.BaseExpression:
    make = _COMPREHENSIONS[node.__class__]
    return make(expression(node.elt, text), _for_in(node.generators, text))


def _convert_dict_comprehension(node: Any, text: Text) -> cst.BaseExpression:
    return _dict_comprehension(
        expression(node.key, text), expression(node.value, text), _for_in(node.generators, text)
    )


def _for_in(generators: list[ast.comprehension], text: Text) -> cst.CompFor:
    inner = None
    for each in reversed(generators):
        inner = _for(
            expression(each.target, text),
            expression(each.iter, text),
            tuple([_if(expression(test, text)) for test in each.ifs]),
            inner,
            ASYNCHRONOUS if each.is_async else None,
        )
    assert inner is not None
    return inner


def _convert_subscript(node: Any, text: Text) -> cst.BaseExpression:
    inside = node.slice
    if inside.__class__ is not ast.Tuple:
        return _subscript(expression(node.value, text), (_subscript_part(inside, text),))
    if not inside.elts or text.starts(inside, "("):
        return text.expression(node)  # `a[(1, 2)]` is not `a[1, 2]` to libcst
    parts = tuple([_subscript_part(part, text) for part in inside.elts])
    return _subscript(expression(node.value, text), parts)


def _subscript_part(node: ast.expr, text: Text) -> cst.SubscriptElement:
    if isinstance(node, ast.Slice):
        bounds = (node.lower, node.upper, node.step)
        return _subscript_element(
            _slice(*(None if bound is None else expression(bound, text) for bound in bounds))
        )
    if isinstance(node, ast.Starred):
        return _subscript_element(_index(expression(node.value, text), "*"))
    return _subscript_element(_index(expression(node, text), None))


def _convert_lambda(node: Any, text: Text) -> cst.BaseExpression:
    return _lambda(parameters(node.args, text), expression(node.body, text))


def _convert_yield(node: Any, text: Text) -> cst.BaseExpression:
    return _yield(None if node.value is None else expression(node.value, text))


_CONVERT: dict[type, Callable[[Any, Text], cst.BaseExpression]] = {
    ast.Name: lambda node, _: name(node.id),
    ast.Attribute: _convert_attribute,
    ast.Call: _convert_call,
    ast.Constant: _convert_constant,
    ast.BinOp: _convert_binary,
    ast.BoolOp: _convert_boolean,
    ast.UnaryOp: _convert_unary,
    ast.Compare: _convert_comparison,
    ast.IfExp: _convert_conditional,
    **dict.fromkeys(_COLLECTIONS, _convert_collection),
    ast.Dict: _convert_dict,
    **dict.fromkeys(_COMPREHENSIONS, _convert_comprehension),
    ast.DictComp: _convert_dict_comprehension,
    ast.Subscript: _convert_subscript,
    ast.Lambda: _convert_lambda,
    ast.Await: lambda node, text: _await(expression(node.value, text)),
    ast.Yield: _convert_yield,
    ast.YieldFrom: lambda node, text: _yield(_from(expression(node.value, text))),
    ast.NamedExpr: lambda node, text: _named(
        expression(node.target, text), expression(node.value, text)
    ),
}
"""What is not here, such as a string with expressions in it, libcst parses itself."""
