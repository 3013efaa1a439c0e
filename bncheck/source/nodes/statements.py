"""Statements: Python's own tree -> libcst's nodes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import libcst as cst

from bncheck.source.nodes.expressions import (
    ASYNCHRONOUS,
    annotation,
    arguments,
    dotted_name,
    expression,
    parameters,
)
from bncheck.source.nodes.make import maker, name
from bncheck.source.nodes.text import Text

Body = Callable[[Any, Text], cst.BaseSuite | None]
"""Returns the body of a function where it is not converted with the rest."""

_BLOCKS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    *([ast.TryStar] if hasattr(ast, "TryStar") else []),
    *([ast.Match] if hasattr(ast, "Match") else []),
)

_alias = maker(cst.ImportAlias, "name", "asname")
_annotated = maker(cst.AnnAssign, "target", "annotation", "value")
_as = maker(cst.AsName, "name")
_assert = maker(cst.Assert, "test", "msg")
_assign = maker(cst.Assign, "targets", "value")
_augmented = maker(cst.AugAssign, "target", "operator", "value")
_block = maker(cst.IndentedBlock, "body")
_class = maker(
    cst.ClassDef, "name", "body", "bases", "keywords", "decorators", empty="type_parameters"
)
_decorator = maker(cst.Decorator, "decorator")
_delete = maker(cst.Del, "target")
_dot = maker(cst.Dot)()
_else = maker(cst.Else, "body")
_expression = maker(cst.Expr, "value")
_finally = maker(cst.Finally, "body")
_for = maker(cst.For, "target", "iter", "body", "orelse", "asynchronous")
_from = maker(cst.From, "item")
_function = maker(
    cst.FunctionDef,
    "name",
    "params",
    "body",
    "decorators",
    "returns",
    "asynchronous",
    empty="type_parameters",
)
_handler = maker(cst.ExceptHandler, "body", "type", "name")
_if = maker(cst.If, "test", "body", "orelse")
_import = maker(cst.Import, "names")
_import_from = maker(cst.ImportFrom, "module", "names", "relative")
_line = maker(cst.SimpleStatementLine, "body")
_name_item = maker(cst.NameItem, "name")
_raise = maker(cst.Raise, "exc", "cause")
_return = maker(cst.Return, "value")
_suite = maker(cst.SimpleStatementSuite, "body")
_target = maker(cst.AssignTarget, "target")
_try = maker(cst.Try, "body", "handlers", "orelse", "finalbody")
_while = maker(cst.While, "test", "body", "orelse")
_with = maker(cst.With, "items", "body", "asynchronous")
_with_item = maker(cst.WithItem, "item", "asname")

_KINDS: dict[type, type[Any]] = {
    ast.Add: cst.AddAssign,
    ast.Sub: cst.SubtractAssign,
    ast.Mult: cst.MultiplyAssign,
    ast.Div: cst.DivideAssign,
    ast.FloorDiv: cst.FloorDivideAssign,
    ast.Mod: cst.ModuloAssign,
    ast.Pow: cst.PowerAssign,
    ast.MatMult: cst.MatrixMultiplyAssign,
    ast.LShift: cst.LeftShiftAssign,
    ast.RShift: cst.RightShiftAssign,
    ast.BitAnd: cst.BitAndAssign,
    ast.BitOr: cst.BitOrAssign,
    ast.BitXor: cst.BitXorAssign,
}
_AUGMENTED = {kind: maker(found)() for kind, found in _KINDS.items()}
_TRY_STAR = (
    maker(cst.TryStar, "body", "handlers", "orelse", "finalbody"),
    maker(cst.ExceptStarHandler, "body", "type", "name"),
)


def converted(
    nodes: list[ast.stmt], text: Text, body: Body | None = None
) -> tuple[cst.CSTNode, ...]:
    """Return libcst's statements for those of a module or an indented block.

    `body` may give the bodies of functions, of methods too. Raises NotConvertedError where the
    statements can't be told by what Python's tree says.
    """
    made: list[Any] = []
    line: list[Any] = []
    end = -1
    for node in nodes:
        if node.__class__ in _BLOCKS:
            made.append(_CONVERT[node.__class__](node, text, body))
            line = []
            continue
        convert = _SMALL.get(node.__class__)
        if convert is None:
            made.append(text.statement(node))
            line = []
            continue
        if not line or (node.lineno != end and not text.continues(node)):
            line = []
            made.append(line)
        line.append(convert(node, text))
        end = node.end_lineno or 0
    return tuple([_line(tuple(one)) if isinstance(one, list) else one for one in made])


def block(nodes: list[ast.stmt], text: Text, body: Body | None = None) -> cst.BaseSuite:
    """Return the body of a statement: an indented block, or what stands on the head's line."""
    before = text.before(nodes[0])
    if (before and not before.isspace()) or text.continues(nodes[0]):
        return _suite(tuple([_small(node, text) for node in nodes]))
    return _block(converted(nodes, text, body))


def _small(node: ast.stmt, text: Text) -> Any:
    convert = _SMALL.get(node.__class__)
    return text.statement(node) if convert is None else convert(node, text)


def _optional(node: ast.expr | None, text: Text) -> Any:
    return None if node is None else expression(node, text)


def _convert_assign(node: Any, text: Text) -> cst.CSTNode:
    targets = tuple([_target(expression(target, text)) for target in node.targets])
    return _assign(targets, expression(node.value, text))


def _convert_augmented(node: Any, text: Text) -> cst.CSTNode:
    return _augmented(
        expression(node.target, text),
        _AUGMENTED[node.op.__class__],
        expression(node.value, text),
    )


def _convert_annotated(node: Any, text: Text) -> cst.CSTNode:
    return _annotated(
        expression(node.target, text),
        annotation(node.annotation, text),
        _optional(node.value, text),
    )


def _convert_raise(node: Any, text: Text) -> cst.CSTNode:
    cause = None if node.cause is None else _from(expression(node.cause, text))
    return _raise(_optional(node.exc, text), cause)


def _convert_delete(node: Any, text: Text) -> cst.CSTNode:
    if len(node.targets) == 1:
        return _delete(expression(node.targets[0], text))
    every = ast.Tuple(node.targets, ast.Del())
    return _delete(expression(every, text))


def _aliases(names: list[ast.alias]) -> tuple[cst.ImportAlias, ...]:
    return tuple(
        [
            _alias(
                dotted_name(alias.name), None if alias.asname is None else _as(name(alias.asname))
            )
            for alias in names
        ]
    )


def _convert_import_from(node: Any, _: Text) -> cst.CSTNode:
    star = node.names[0].name == "*"
    return _import_from(
        None if node.module is None else dotted_name(node.module),
        maker(cst.ImportStar)() if star else _aliases(node.names),
        (_dot,) * node.level,
    )


_SMALL: dict[type, Callable[[Any, Text], cst.CSTNode]] = {
    ast.Expr: lambda node, text: _expression(expression(node.value, text)),
    ast.Assign: _convert_assign,
    ast.AugAssign: _convert_augmented,
    ast.AnnAssign: _convert_annotated,
    ast.Return: lambda node, text: _return(_optional(node.value, text)),
    ast.Raise: _convert_raise,
    ast.Assert: lambda node, text: _assert(expression(node.test, text), _optional(node.msg, text)),
    ast.Delete: _convert_delete,
    ast.Pass: lambda node, text: maker(cst.Pass)(),
    ast.Break: lambda node, text: maker(cst.Break)(),
    ast.Continue: lambda node, text: maker(cst.Continue)(),
    ast.Global: lambda node, text: maker(cst.Global, "names")(_names(node.names)),
    ast.Nonlocal: lambda node, text: maker(cst.Nonlocal, "names")(_names(node.names)),
    ast.Import: lambda node, text: _import(_aliases(node.names)),
    ast.ImportFrom: _convert_import_from,
}


def _names(names: list[str]) -> tuple[cst.NameItem, ...]:
    return tuple([_name_item(name(each)) for each in names])


def _else_of(nodes: list[ast.stmt], text: Text, body: Body | None) -> cst.Else | None:
    return _else(block(nodes, text, body)) if nodes else None


def _convert_if(node: Any, text: Text, body: Body | None) -> cst.CSTNode:
    rest = node.orelse
    orelse: object
    if len(rest) == 1 and isinstance(rest[0], ast.If) and text.starts(rest[0], "elif"):
        orelse = _convert_if(rest[0], text, body)
    else:
        orelse = _else_of(rest, text, body)
    return _if(expression(node.test, text), block(node.body, text, body), orelse)


def _convert_for(node: Any, text: Text, body: Body | None) -> cst.CSTNode:
    return _for(
        expression(node.target, text),
        expression(node.iter, text),
        block(node.body, text, body),
        _else_of(node.orelse, text, body),
        ASYNCHRONOUS if isinstance(node, ast.AsyncFor) else None,
    )


def _convert_while(node: Any, text: Text, body: Body | None) -> cst.CSTNode:
    return _while(
        expression(node.test, text),
        block(node.body, text, body),
        _else_of(node.orelse, text, body),
    )


def _convert_with(node: Any, text: Text, body: Body | None) -> cst.CSTNode:
    items = [
        _with_item(
            expression(item.context_expr, text),
            None if item.optional_vars is None else _as(expression(item.optional_vars, text)),
        )
        for item in node.items
    ]
    asynchronous = ASYNCHRONOUS if isinstance(node, ast.AsyncWith) else None
    return _with(tuple(items), block(node.body, text, body), asynchronous)


def _convert_try(node: Any, text: Text, body: Body | None) -> cst.CSTNode:
    make, make_handler = (_try, _handler) if isinstance(node, ast.Try) else _TRY_STAR
    handlers = [
        make_handler(
            block(handler.body, text, body),
            _optional(handler.type, text),
            None if handler.name is None else _as(name(handler.name)),
        )
        for handler in node.handlers
    ]
    return make(
        block(node.body, text, body),
        tuple(handlers),
        _else_of(node.orelse, text, body),
        _finally(block(node.finalbody, text, body)) if node.finalbody else None,
    )


def _decorators(node: Any, text: Text) -> tuple[cst.Decorator, ...]:
    return tuple([_decorator(expression(each, text)) for each in node.decorator_list])


def _convert_function(node: Any, text: Text, body: Body | None) -> cst.CSTNode:
    if getattr(node, "type_params", None):
        return text.statement(node)
    return _function(
        name(node.name),
        parameters(node.args, text),
        (None if body is None else body(node, text)) or block(node.body, text),
        _decorators(node, text),
        annotation(node.returns, text),
        ASYNCHRONOUS if isinstance(node, ast.AsyncFunctionDef) else None,
    )


def _convert_class(node: Any, text: Text, body: Body | None) -> cst.CSTNode:
    if getattr(node, "type_params", None):
        return text.statement(node)
    given = arguments(node, text)
    named = [place for place, each in enumerate(given) if each.keyword or each.star == "**"]
    first = named[0] if named else len(given)
    return _class(
        name(node.name),
        block(node.body, text, body),
        tuple(given[:first]),
        tuple(given[first:]),
        _decorators(node, text),
    )


_CONVERT: dict[type, Callable[[Any, Text, Body | None], cst.CSTNode]] = {
    kind: {
        "FunctionDef": _convert_function,
        "AsyncFunctionDef": _convert_function,
        "ClassDef": _convert_class,
        "If": _convert_if,
        "For": _convert_for,
        "AsyncFor": _convert_for,
        "While": _convert_while,
        "With": _convert_with,
        "AsyncWith": _convert_with,
        "Try": _convert_try,
        "TryStar": _convert_try,
    }.get(kind.__name__, lambda node, text, _: text.statement(node))
    for kind in _BLOCKS
}
