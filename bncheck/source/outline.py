"""A syntax tree whose larger functions and classes are parsed when they are first looked into.

libcst takes ten times as long as Python's own parser, and of most functions and classes nothing
but the head is ever asked for. So their bodies are cut out by the line numbers of Python's own
tree, libcst parses what is left, and a body when something reads it. To readers it is the tree
that libcst makes of the whole file: it prints the same text, and nodes keep their identity.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import libcst as cst

_FEWEST_LINES = 3
"""A body of fewer lines is parsed at once: to come back to it costs more."""
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ODD = ("\r", "\f", "\0", "\ufeff")
"""With these in it a text's lines are not surely those of Python's tree."""


class UnparsableBodyError(Exception):
    """libcst does not parse a body that Python's own parser took; `path` is its file."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class _Cut:
    """The lines of a body, from `first` up to `end`, counted from 0."""

    first: int
    end: int
    indent: str
    inner: tuple[_Cut | None, ...]
    """Of a class: one for each definition right inside, in order; None where it is not cut out."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the text of a body that was cut out is."""

    path: str
    lines: list[str]
    cut: _Cut
    indents: tuple[str, ...]
    """Of the bodies around it, outermost first."""
    default_indent: str
    stub: cst.IndentedBlock
    """What libcst made of the line that stands for the body."""


class LazyBlock(cst.IndentedBlock):
    """A body that is parsed when its statements are first read."""

    __slots__ = ("place", "source")  # type: ignore[misc]
    if TYPE_CHECKING:
        source: _Source | None
        place: tuple[list[str], int, int]

    @property
    def text(self) -> str:
        """The body's text, whether it is parsed or not: to look for words in it is fast."""
        lines, first, end = self.place
        return "\n".join(lines[first:end])

    def __getattr__(self, name: str) -> Any:
        if name not in {"body", "footer"}:
            raise AttributeError(name)
        _fill(self)
        return object.__getattribute__(self, name)


def parse_lazily(path: str, text: str, known: ast.Module) -> cst.Module | None:
    """Return the tree of a text of which `known` is Python's own; None where nothing is cut out.

    Raises what `libcst.parse_module` raises, and UnparsableBodyError when a body is read.
    """
    if not has_plain_lines(text):
        return None
    lines = text.split("\n")
    cuts = _cuts(known.body, lines)
    if not any(cuts):
        return None
    with unvalidated():
        tree = cst.parse_module("\n".join(_without(lines, 0, len(lines), cuts)))
    if not _matches(tree.body, cuts):
        return None
    _attach(tree.body, cuts, path, lines, (), tree.default_indent)
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


def unread(node: cst.FunctionDef | cst.ClassDef) -> str | None:
    """Return the text of a body that is not parsed yet, so as to look for words in it."""
    body = node.body
    source = body.source if isinstance(body, LazyBlock) else None
    return None if source is None else "\n".join(source.lines[source.cut.first : source.cut.end])


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


def _cuts(body: list[ast.stmt], lines: list[str]) -> tuple[_Cut | None, ...]:
    return tuple(
        _cut(statement, lines) for statement in body if isinstance(statement, _DEFINITIONS)
    )


def _cut(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str]
) -> _Cut | None:
    statement = node.body[0]
    decorators = getattr(statement, "decorator_list", ())
    first = (decorators[0] if decorators else statement).lineno - 1
    end = node.body[-1].end_lineno or 0
    indent = lines[first][: statement.col_offset]
    if (
        end - first < _FEWEST_LINES
        or indent.strip(" \t")
        or not indent
        or (decorators and not lines[first].startswith(f"{indent}@"))
        or lines[end - 1].endswith("\\")
    ):
        return None
    inner = _cuts(node.body, lines) if isinstance(node, ast.ClassDef) else ()
    return _Cut(first, _with_comments(lines, end, indent), indent, inner)


def _with_comments(lines: list[str], end: int, indent: str) -> int:
    """Return where a body ends with the comments behind it that are indented as it is."""
    for place in range(end, len(lines)):
        line = lines[place].lstrip(" \t")
        if line and not line.startswith("#"):
            break
        if lines[place].startswith(indent):
            end = place + 1
    return end


def _without(lines: list[str], start: int, end: int, cuts: Iterable[_Cut | None]) -> Iterator[str]:
    """Yield lines with one in the place of each body."""
    for cut in cuts:
        if cut is not None:
            yield from lines[start : cut.first]
            yield f"{cut.indent}pass"
            start = cut.end
    yield from lines[start:end]


def _definitions(
    body: Iterable[cst.CSTNode],
) -> list[cst.FunctionDef | cst.ClassDef]:
    return [node for node in body if isinstance(node, cst.FunctionDef | cst.ClassDef)]


def _matches(body: Iterable[cst.CSTNode], cuts: Sequence[_Cut | None]) -> bool:
    found = _definitions(body)
    return len(found) == len(cuts) and all(
        cut is None or isinstance(node.body, cst.IndentedBlock)
        for node, cut in zip(found, cuts, strict=True)
    )


def _attach(
    body: Iterable[cst.CSTNode],
    cuts: Sequence[_Cut | None],
    path: str,
    lines: list[str],
    indents: tuple[str, ...],
    default_indent: str,
) -> None:
    """Put bodies that are parsed later in the place of those that stand for them."""
    for node, cut in zip(_definitions(body), cuts, strict=True):
        stub = node.body
        if cut is None or not isinstance(stub, cst.IndentedBlock):
            continue
        lazy = LazyBlock.__new__(LazyBlock)
        source = _Source(path, lines, cut, indents, default_indent, stub)
        place = (lines, cut.first, cut.end)
        for name, value in (
            ("header", stub.header),
            ("indent", stub.indent),
            ("source", source),
            ("place", place),
        ):
            object.__setattr__(lazy, name, value)
        object.__setattr__(node, "body", lazy)


def _fill(block: LazyBlock) -> None:
    source = block.source
    assert source is not None
    cut = source.cut
    around = (*source.indents, cut.indent)
    heads = [f"{indent}if 1:" for indent in ("", *around[:-1])]
    text = "\n".join([*heads, *_without(source.lines, cut.first, cut.end, cut.inner), ""])
    try:
        with unvalidated():
            tree = cst.parse_module(text)
    except (cst.ParserSyntaxError, RecursionError):
        raise UnparsableBodyError(source.path) from None
    node: Any = tree
    for _ in heads:
        node = node.body[0] if node is tree else node.body.body[0]
    parsed: cst.IndentedBlock = node.body
    if cut.inner:
        if not _matches(parsed.body, cut.inner):
            raise UnparsableBodyError(source.path)
        _attach(parsed.body, cut.inner, source.path, source.lines, around, source.default_indent)
    if tree.default_indent != source.default_indent:
        _reindent(parsed, tree.default_indent, source.default_indent)
    stub: Any = source.stub
    object.__setattr__(parsed.body[0], "leading_lines", stub.body[0].leading_lines)
    object.__setattr__(block, "footer", (*parsed.footer, *stub.footer))
    object.__setattr__(block, "body", parsed.body)
    object.__setattr__(block, "source", None)


def _reindent(root: cst.CSTNode, was: str, default: str) -> None:
    """Say what blocks are indented by, where that is taken for granted, in another file's terms."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, cst.IndentedBlock):
            indent = was if node.indent is None else node.indent
            object.__setattr__(node, "indent", None if indent == default else indent)
        stack.extend(node.children)
