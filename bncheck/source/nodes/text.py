"""The text that a tree of Python's own was made of: what stands where, in characters."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import libcst as cst


class NotConvertedError(Exception):
    """A piece of source can't be turned into libcst's nodes by itself."""


@dataclass(frozen=True, slots=True)
class Text:
    """Lines of a file."""

    lines: list[str]
    offset: int
    """What to take from a node's line number for the place of its line among these."""

    def of(self, node: ast.expr | ast.stmt) -> str:
        """Return the text of a node, without the parentheses around it."""
        first, last = node.lineno - self.offset, _end_line(node) - self.offset
        line = self.lines[first]
        start, end = node.col_offset, node.end_col_offset or 0
        if first == last:
            return line[start:end] if line.isascii() else line.encode()[start:end].decode()
        between = self.lines[first + 1 : last]
        return "\n".join(
            (line.encode()[start:].decode(), *between, self.lines[last].encode()[:end].decode())
        )

    def before(self, node: ast.stmt) -> str:
        """Return what stands on a statement's first line before it."""
        line = self.lines[node.lineno - self.offset]
        return line[: node.col_offset] if line.isascii() else _head(line, node.col_offset)

    def continues(self, node: ast.stmt) -> bool:
        """Tell whether the line before a statement goes on in its line."""
        place = node.lineno - self.offset - 1
        return place >= 0 and self.lines[place].endswith("\\") and "#" not in self.lines[place]

    def starts(self, node: ast.expr | ast.stmt, beginning: str) -> bool:
        """Tell whether a node's text starts with something."""
        line = self.lines[node.lineno - self.offset]
        column = node.col_offset
        return line.startswith(beginning, column if line.isascii() else len(_head(line, column)))

    def expression(self, node: ast.expr) -> cst.BaseExpression:
        """Return what libcst itself makes of an expression."""
        try:
            return cst.parse_expression(f"({self.of(node)})")
        except cst.ParserSyntaxError:
            raise NotConvertedError from None

    def statement(self, node: ast.stmt) -> cst.CSTNode:
        """Return what libcst itself makes of a statement that has lines of its own."""
        decorators = getattr(node, "decorator_list", ())
        first = min(part.lineno for part in (node, *decorators)) - self.offset
        lines = self.lines[first : _end_line(node) - self.offset + 1]
        indented = lines[0][:1] in {" ", "\t"}
        try:
            tree: Any = cst.parse_module("\n".join(["if 1:"] * indented + lines) + "\n")
        except cst.ParserSyntaxError:
            raise NotConvertedError from None
        body = tree.body[0].body.body if indented else tree.body
        if len(body) != 1:
            raise NotConvertedError
        found: cst.CSTNode = body[0]
        return found


def _head(line: str, end: int) -> str:
    return line.encode()[:end].decode()


def _end_line(node: ast.expr | ast.stmt) -> int:
    return node.end_lineno or node.lineno
