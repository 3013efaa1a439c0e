"""Copies of a package in which layers have a bias that upstream took away.

Public zoos are mostly clean, so few of their sites can show whether BN101 finds what it should.
A copy is a real package: its models are built and run as upstream's are, so the truth about it is
taken from the copy itself and nothing is inferred.
"""

from __future__ import annotations

import ast
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

MUTATIONS = ("strip", "explicit", "half", "default")
"""strip: every `bias=False` argument is dropped, in calls of helpers too, and defaults are True.
explicit: `bias=False` becomes `bias=True`. half: one in two of the `bias=False`, at random.
default: constructors of torch layers lose their `bias` argument, whatever it was."""

_NAMES = frozenset({"bias", "use_bias", "conv_bias"})
_LAYERS = frozenset(
    {f"Conv{d}d" for d in (1, 2, 3)} | {f"ConvTranspose{d}d" for d in (1, 2, 3)} | {"Linear"}
)


def mutated_copy(package: Path, into: Path, mutation: str, seed: int = 0) -> Path:
    """Copy a package's folder into another and give its layers biases; return the copy."""
    copy = into / package.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so", ".git"))
    chance = random.Random(seed)
    for path in sorted(copy.rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        edits = [e for e in _edits(tree, mutation) if mutation != "half" or chance.random() < 0.5]
        if edits:
            path.write_text(_apply(text, edits), encoding="utf-8", errors="surrogateescape")
    return copy


Edit = tuple[tuple[int, int], tuple[int, int], str]
"""Start and end as (line from 1, byte column from 0), and the new text."""


def _edits(tree: ast.Module, mutation: str) -> Iterator[Edit]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=func, keywords=keywords):
                name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
                for keyword in keywords:
                    if mutation == "default" and not (name in _LAYERS and keyword.arg == "bias"):
                        continue
                    if keyword.arg in _NAMES and (mutation == "default" or _false(keyword.value)):
                        yield _argument(keyword, mutation)
            case ast.FunctionDef(args=arguments) if mutation != "default":
                yield from _defaults(arguments)


def _argument(keyword: ast.keyword, mutation: str) -> Edit:
    value = keyword.value
    assert value.end_lineno is not None
    assert value.end_col_offset is not None
    end = (value.end_lineno, value.end_col_offset)
    if mutation == "explicit" or keyword.arg != "bias":
        return ((value.lineno, value.col_offset), end, "True")
    return ((keyword.lineno, keyword.col_offset), end, "")


def _defaults(arguments: ast.arguments) -> Iterator[Edit]:
    positional = arguments.posonlyargs + arguments.args
    pairs = [
        *zip(
            positional[len(positional) - len(arguments.defaults) :],
            arguments.defaults,
            strict=False,
        ),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=False),
    ]
    for parameter, default in pairs:
        if parameter.arg in _NAMES and default is not None and _false(default):
            assert default.end_lineno is not None
            assert default.end_col_offset is not None
            start = (default.lineno, default.col_offset)
            yield (start, (default.end_lineno, default.end_col_offset), "True")


def _false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def _apply(text: str, edits: list[Edit]) -> str:
    data = text.encode("utf-8", errors="surrogateescape")
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for (line, column), (end_line, end_column), new in sorted(edits, reverse=True):
        start, end = starts[line - 1] + column, starts[end_line - 1] + end_column
        if not new:
            start, end = _with_comma(data, start, end)
        data = data[:start] + new.encode() + data[end:]
    return data.decode("utf-8", errors="surrogateescape")


def _with_comma(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Take the comma in front, and the white space before the argument, with it."""
    before = len(data[:start].rstrip())
    if data[before - 1 : before] == b",":
        return before - 1, end
    after = end
    while data[after : after + 1] in (b" ", b"\n", b","):
        after += 1
    return start, after
