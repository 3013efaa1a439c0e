"""A syntax tree for readers: made of Python's own, functions as late as something reads them.

libcst takes ten times as long as Python's own parser, and says of each node how it is written.
Readers ask what it means. So a file's tree is libcst's in kind and shape, but its nodes lack white
space and punctuation (see `bncheck.source.nodes`), and the bodies of functions wait: as Python's
own trees, or, to save memory, as text.
`bncheck.source.exact` has what libcst itself makes of the file, for findings and their fixes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import libcst as cst

from bncheck.source.nodes.statements import block, converted
from bncheck.source.nodes.text import NotConvertedError, Text
from bncheck.syntax import parsed

_FEWEST_LINES = 3
"""A body of fewer lines is converted at once: to come back to it costs more."""
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ODD = ("\r", "\f", "\0", "\ufeff")
"""With these in it a text's lines are not surely those of Python's tree."""


class UnparsableBodyError(Exception):
    """A body can't be converted by itself; `path` is its file."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class LazyBlock(cst.IndentedBlock):
    """The body of a function, converted when its statements are first read."""

    __slots__ = ("head", "known", "path", "place")  # type: ignore[misc]
    if TYPE_CHECKING:
        path: str
        known: tuple[list[ast.stmt], Text] | None
        """Python's own tree of it, where that was kept, until it is converted."""
        head: int
        """The line at which the function begins, counted from 0."""
        place: tuple[list[str], int, int]

    @property
    def text(self) -> str:
        """The body's text, whether it is converted or not: to look for words in it is fast."""
        lines, first, end = self.place
        return "\n".join(lines[first:end])

    @property
    def waits(self) -> bool:
        """Whether nothing has read the body yet."""
        try:
            object.__getattribute__(self, "body")
        except AttributeError:
            return True
        return False

    def __getattr__(self, name: str) -> Any:
        if name != "body":
            raise AttributeError(name)
        _set(self, "body", _statements(self))
        _set(self, "known", None)
        return object.__getattribute__(self, name)


_set = object.__setattr__


def outline(path: str, text: str, known: ast.Module, *, keep: bool) -> cst.Module | None:
    """Return the tree of a text of which `known` is Python's own; None where it can't be told.

    With `keep` what `known` has of a body is kept until the body is read: that takes some 1.5 kB
    for each line of code, and saves parsing the body again.
    """
    if not has_plain_lines(text):
        return None

    def late(node: Any, within: Text) -> cst.BaseSuite:
        return _body(node, within, path, late=True, keep=keep)

    try:
        body = converted(known.body, Text(text.split("\n"), 1), late)
    except NotConvertedError:
        return None
    tree = cst.Module.__new__(cst.Module)
    _set(tree, "body", body)
    return tree


def has_plain_lines(text: str) -> bool:
    """Tell whether the lines that Python's tree counts are what stands between line feeds."""
    return not any(mark in text for mark in _ODD)


def spans(known: ast.Module) -> dict[str, list[tuple[int, int]]]:
    """Return the lines of the statements at module level that bind each name but imports.

    Of a name that is assigned, so are those that may change what it is bound to: a registry is
    filled by decorators, calls and item assignments (see `bncheck.source.interpret.effects`).
    """
    found: dict[str, list[tuple[int, int]]] = {}
    changing: list[tuple[ast.stmt, tuple[int, int]]] = []
    assigned: set[str] = set()
    for statement in known.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        decorators = getattr(statement, "decorator_list", ())
        lines = ((decorators[0] if decorators else statement).lineno - 1, statement.end_lineno or 0)
        definition = isinstance(statement, _DEFINITIONS)
        names = {statement.name} if isinstance(statement, _DEFINITIONS) else _bound(statement)
        for name in names:
            found.setdefault(name, []).append(lines)
        if not definition:
            assigned |= names
        if decorators or not (definition or _is_plain(statement)):
            changing.append((statement, lines))
    for statement, lines in changing:
        parts = getattr(statement, "decorator_list", (statement,))
        for name in {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name)}:
            if name in assigned and lines not in found[name]:
                found[name].append(lines)
    return found


def _is_plain(statement: ast.stmt) -> bool:
    """Tell whether a statement only binds names."""
    match statement:
        case ast.Assign(targets=targets):
            return all(isinstance(target, ast.Name) for target in targets)
        case ast.AnnAssign(target=ast.Name()):
            return True
    return False


def _bound(statement: ast.stmt) -> set[str]:
    names = set()
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement]
    for node in chain.from_iterable(map(ast.walk, targets)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, _DEFINITIONS):
            names.add(node.name)
    return names


def body_text(node: cst.FunctionDef) -> str | None:
    """Return the text of a function's body, so as to look for words in it; None: not known."""
    return node.body.text if isinstance(node.body, LazyBlock) else None


@contextmanager
def unvalidated() -> Iterator[None]:
    """Let nodes be made unchecked: the parser's are right, and to check each is a fifth of it."""
    check = cst.CSTNode.__post_init__
    if check is _unchecked:
        yield
        return
    cst.CSTNode.__post_init__ = _unchecked  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        cst.CSTNode.__post_init__ = check  # type: ignore[method-assign]


def _unchecked(node: cst.CSTNode) -> None:
    pass


def _body(
    node: ast.FunctionDef | ast.AsyncFunctionDef,
    text: Text,
    path: str,
    *,
    late: bool,
    keep: bool = False,
) -> cst.BaseSuite:
    """Return a function's body, a later one if it has lines of its own and is long enough."""
    statement = node.body[0]
    if text.before(statement).strip(" \t") or text.continues(statement):
        return block(node.body, text)
    decorators = getattr(statement, "decorator_list", ())
    first = (decorators[0] if decorators else statement).lineno - text.offset
    end = (node.body[-1].end_lineno or 0) - text.offset + 1
    made = LazyBlock.__new__(LazyBlock)
    _set(made, "path", path)
    _set(made, "head", min(part.lineno for part in (node, *node.decorator_list)) - text.offset)
    _set(made, "place", (text.lines, first, end))
    _set(made, "known", (node.body, text) if keep else None)
    short = end - first < _FEWEST_LINES
    if not late or short or text.before(statement) == "" or text.lines[end - 1].endswith("\\"):
        _set(made, "body", converted(node.body, text, _inner(path)))
        _set(made, "known", None)
    return made


def _inner(path: str) -> Any:
    return lambda node, text: _body(node, text, path, late=False)


def _statements(body: LazyBlock) -> tuple[cst.CSTNode, ...]:
    lines, first, end = body.place
    try:
        if body.known is not None:
            return converted(*body.known, _inner(body.path))
        (head,) = parsed("\n".join(["if 1:", *lines[first:end], ""])).body
        return converted(head.body, Text(lines, 2 - first), _inner(body.path))  # type: ignore[attr-defined]
    except (SyntaxError, ValueError, NotConvertedError):
        raise UnparsableBodyError(body.path) from None
