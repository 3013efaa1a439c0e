"""One parsed source file and the names that its module level binds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from tokenize import detect_encoding

import libcst as cst

from bncheck.graph import Site
from bncheck.source.outline import has_plain_lines, outline, spans, unvalidated
from bncheck.syntax import in_present_syntax, python_tree


@dataclass(frozen=True)
class Imported:
    """`import module` or `from module import attribute`; `module` is absolute where known."""

    module: str
    attribute: str | None = None


@dataclass(frozen=True)
class Assigned:
    """`name = value`."""

    value: cst.BaseExpression


class UnparsableError(Exception):
    """A text is not Python: its syntax, its encoding, or its nesting."""


Binding = Imported | Assigned | cst.ClassDef | cst.FunctionDef


@dataclass(eq=False)
class SourceModule:
    """A parsed file."""

    path: str
    """As it was given; findings print it."""
    name: str
    """Dotted, such as `pytorchcv.models.common`; a script's is its stem."""
    is_package: bool
    text: str
    tree: cst.Module
    """Of libcst's nodes, which may lack all that only says how they are written."""
    is_exact: bool = False
    """Whether it is libcst's own tree."""
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    """Every module-level binding of a name, in order: branches and `try` give more than one."""
    star_imports: list[str] = field(default_factory=list)
    """Modules whose public names are imported with `*`."""
    spans: dict[str, list[tuple[int, int]]] | None = None
    """The lines of the statements that bind each name, from the first up to the end, counted from
    0; None where they are not known."""
    sites: dict[int, Site] = field(default_factory=dict)
    """Where nodes of the tree stand, by their identity: each is asked for again and again."""

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")

    def text_of(self, name: str) -> str:
        """Return the text that binds a name of the module level, imports left out, or more."""
        if self.spans is None:
            return self.text
        spans = self.spans.get(name, ())
        return "\n".join(line for start, end in spans for line in self._lines[start:end])


def dotted(expression: cst.BaseExpression | None) -> str | None:
    """Return `a.b.c` for a chain of names; None for anything else."""
    parts: list[str] = []
    # To ask an abstract class, as libcst's are, whether it is not takes ten times as long.
    while expression.__class__ is cst.Attribute:
        parts.append(expression.attr.value)
        expression = expression.value
    if expression.__class__ is not cst.Name:
        return None
    parts.append(expression.value)
    return ".".join(reversed(parts))


def parse(
    path: str, name: str, source: bytes | str, *, whole: bool = False, keep: bool = False
) -> SourceModule:
    """Parse one file; raise UnparsableError where it is not Python, or nested too deeply.

    Bodies of functions are looked into when they are first read, which may raise
    `UnparsableBodyError`; with `whole` libcst parses the file. With `keep` Python's own trees of
    the bodies are kept until then.
    """
    try:
        known = python_tree(source)
        if known is None:
            source = in_present_syntax(source)
            known = python_tree(source)
        text = None if whole or known is None else _plain(source)
        tree = outline(path, text, known, keep=keep) if text is not None and known else None
        is_exact = tree is None
        if tree is None:
            with unvalidated():
                tree = cst.parse_module(source)
            text = source if isinstance(source, str) else source.decode(tree.encoding)
    except (cst.ParserSyntaxError, SyntaxError, ValueError, LookupError, RecursionError) as problem:
        raise UnparsableError(str(problem)) from None
    module = SourceModule(path, name, Path(path).stem == "__init__", text or "", tree, is_exact)
    if known is not None and has_plain_lines(module.text):
        module.spans = spans(known)
    for statement in statements(tree.body):
        _bind(module, statement)
    return module


def _plain(source: bytes | str) -> str | None:
    """Return a text in UTF-8; None for another encoding."""
    if isinstance(source, str):
        return source
    encoding, _ = detect_encoding(BytesIO(source).readline)
    return source.decode(encoding) if encoding == "utf-8" else None


_PLAIN = (cst.FunctionDef, cst.ClassDef)
"""Most of what stands at module level; a pattern that does not fit takes longer than a look."""


def statements(body: Iterable[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    """Yield the statements of a body and of the branches in it, not of functions or classes."""
    for statement in body:
        if statement.__class__ in _PLAIN:
            yield statement
            continue
        match statement:
            case cst.SimpleStatementLine(body=small):
                yield from small
            case cst.If():
                yield from statements(statement.body.body)
                if statement.orelse is not None:
                    orelse = statement.orelse
                    yield from statements(
                        [orelse] if isinstance(orelse, cst.If) else orelse.body.body
                    )
            case cst.Try() | cst.TryStar():
                yield from statements(statement.body.body)
                for handler in statement.handlers:
                    yield from statements(handler.body.body)
                for part in (statement.orelse, statement.finalbody):
                    if part is not None:
                        yield from statements(part.body.body)
            case cst.With() | cst.For() | cst.While():
                yield statement
                yield from statements(statement.body.body)
            case _:
                yield statement


def imports(
    statement: cst.Import | cst.ImportFrom, module: str, is_package: bool
) -> Iterator[tuple[str, Imported]]:
    """Yield the names that an import binds; the name is `*` for a star import."""
    if isinstance(statement, cst.Import):
        for alias in statement.names:
            target = dotted(alias.name) or ""
            if alias.asname is not None and isinstance(alias.asname.name, cst.Name):
                yield alias.asname.name.value, Imported(target)
            else:
                yield target.partition(".")[0], Imported(target.partition(".")[0])
        return
    origin = absolute_import(statement, module, is_package)
    if isinstance(statement.names, cst.ImportStar):
        yield "*", Imported(origin)
        return
    for alias in statement.names:
        attribute = dotted(alias.name) or ""
        name = attribute
        if alias.asname is not None and isinstance(alias.asname.name, cst.Name):
            name = alias.asname.name.value
        yield name, Imported(origin, attribute)


def absolute_import(statement: cst.ImportFrom, module: str, is_package: bool) -> str:
    """Return the dotted module that a `from ... import` names, its leading dots resolved."""
    return absolute(dotted(statement.module) or "", len(statement.relative), module, is_package)


def absolute(target: str, level: int, module: str, is_package: bool) -> str:
    """Return the dotted module that a name with so many dots before it means in a module."""
    if not level:
        return target
    parents = module.split(".")
    parents = parents[: len(parents) - level + (1 if is_package else 0)]
    return ".".join([*parents, target] if target else parents)


def _bind(module: SourceModule, statement: cst.CSTNode) -> None:
    def bind(name: str, binding: Binding) -> None:
        module.bindings.setdefault(name, []).append(binding)

    match statement:
        case cst.Import() | cst.ImportFrom():
            for name, imported in imports(statement, module.name, module.is_package):
                if name == "*":
                    module.star_imports.append(imported.module)
                else:
                    bind(name, imported)
        case cst.ClassDef() | cst.FunctionDef():
            bind(statement.name.value, statement)
        case cst.Assign():
            for target in statement.targets:
                if isinstance(target.target, cst.Name):
                    bind(target.target.value, Assigned(statement.value))
        case cst.AnnAssign(target=cst.Name(value=name), value=cst.BaseExpression() as value):
            bind(name, Assigned(value))
