"""Turns the changes of a fix into edits of text, and makes edits.

Edits touch the characters of their range and nothing else: comments, quotes, line ends and the
encoding stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import libcst as cst

from bncheck.findings import Change, Edit, Fix, InsertLine, Replace, ResolvedFix, SetKeyword
from bncheck.source.exact import Exact
from bncheck.source.positions import Range, split_lines
from bncheck.source.walk import walk

_INDENTATION = re.compile(r"[ \t\f]*")
_BLANK_OR_COMMENT = re.compile(r"\s*(#.*)?\s*")


class Place(Enum):
    """Where new text stands relative to a syntax node."""

    OVER = "over"
    AFTER = "after"
    LAST_INSIDE = "last inside"
    """Before the last character, which is a closing parenthesis."""
    LINE_BEFORE = "line before"
    LINE_AFTER = "line after"


@dataclass(frozen=True)
class Target:
    """A piece of new text and the node that it stands at."""

    node: cst.CSTNode
    place: Place
    text: str


def targets(fix: Fix, module: Exact) -> tuple[Target, ...] | None:
    """Return where the fix changes the module; None if it can't be made in it."""
    found = [_target(change, module) for change in fix.changes]
    planned = tuple(target for target in found if target is not None)
    return planned if len(planned) == len(found) else None


def resolve(
    fix: Fix, planned: Sequence[Target], ranges: dict[int, Range], module: Exact
) -> ResolvedFix | None:
    """Return the fix as edits, given where the target nodes are; None if one can't be made."""
    edits = []
    for target in planned:
        where = ranges.get(id(target.node))
        edit = None if where is None else _edit(target, where, module.lines, module.path)
        if edit is None:
            return None
        edits.append(edit)
    return ResolvedFix(fix.description, fix.safe, tuple(edits))


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Make edits that don't overlap."""
    lines = split_lines(text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    pieces: list[str] = []
    done = 0
    for edit in sorted(edits, key=lambda e: (e.line, e.column, e.end_line, e.end_column)):
        start = starts[edit.line - 1] + edit.column - 1
        if start < done:
            raise ValueError("edits overlap")
        pieces += [text[done:start], edit.text]
        done = starts[edit.end_line - 1] + edit.end_column - 1
    return "".join([*pieces, text[done:]])


def select(fixes: Iterable[ResolvedFix]) -> list[ResolvedFix]:
    """Return fixes, first come first served, of which no two touch the same place."""
    taken: dict[str, list[tuple[tuple[int, int], tuple[int, int]]]] = {}
    chosen = []
    for fix in dict.fromkeys(fixes):
        spans = [((e.line, e.column), (e.end_line, e.end_column), e.path) for e in fix.edits]
        if any(
            start <= other_end and other_start <= end
            for start, end, path in spans
            for other_start, other_end in taken.get(path, ())
        ):
            continue
        chosen.append(fix)
        for start, end, path in spans:
            taken.setdefault(path, []).append((start, end))
    return chosen


def _target(change: Change, module: Exact) -> Target | None:
    node = module.nodes.get(id(change.site.mark))
    if change.site.path != module.path or node is None:
        return None
    match change:
        case SetKeyword():
            return _keyword_target(change, node, module) if isinstance(node, cst.Call) else None
        case Replace():
            return Target(node, Place.OVER, change.text)
        case InsertLine(after=True) if _leaves(node):
            return None  # nothing runs a line after it
        case InsertLine():
            place = Place.LINE_AFTER if change.after else Place.LINE_BEFORE
            return Target(node, place, change.text)


def _leaves(node: cst.CSTNode) -> bool:
    match node:
        case cst.SimpleStatementLine(body=[*_, cst.Return() | cst.Raise()]):
            return True
    return False


def _keyword_target(change: SetKeyword, call: cst.Call, module: Exact) -> Target | None:
    name = _name_in(change.value)
    if name and name not in {p.name.value for p in _enclosing_parameters(module.above(call))}:
        return None  # the call stands where that name means nothing
    for argument in call.args:
        if argument.keyword is not None and argument.keyword.value == change.keyword:
            return _value_target(argument.value, call, change.value, module)
    if any(argument.star for argument in call.args):
        return None  # the argument may be among those
    positional = [argument for argument in call.args if argument.keyword is None]
    if change.position is not None and len(positional) > change.position:
        value = positional[change.position].value
        return _value_target(value, call, change.value, module)
    keyword = f"{change.keyword}={change.value}"
    if not call.args:
        return Target(call, Place.LAST_INSIDE, keyword)
    if isinstance(call.args[0].value, cst.GeneratorExp) and not call.args[0].value.lpar:
        return None
    return Target(call.args[-1], Place.AFTER, f", {keyword}")


def _value_target(
    value: cst.BaseExpression, call: cst.Call, text: str, module: Exact
) -> Target | None:
    """Change the value where it comes from: a parameter's default, if it is a parameter."""
    names = {n.value for n in walk(value) if isinstance(n, cst.Name)}
    if names <= {"True", "False", "None"}:
        return Target(value, Place.OVER, text)
    parameters = {p.name.value: p for p in _enclosing_parameters(module.above(call))}
    if isinstance(value, cst.Name) and value.value in parameters:
        default = parameters[value.value].default
        if _name_in(text):
            return None  # a default is evaluated before there is any object
        if not _used_once(value.value, parameters[value.value], module.above(call)):
            return None  # other layers would get that default too
        if isinstance(default, cst.Name | cst.BaseNumber) and _text(default) != text:
            return Target(default, Place.OVER, text)
        return None
    if names & set(parameters):
        return None  # a condition that the author wrote: theirs to change
    return Target(value, Place.OVER, text)


def _used_once(name: str, parameter: cst.Param, above: Iterable[cst.CSTNode]) -> bool:
    """Tell whether the function that has a parameter reads it in one place only."""
    owner = next(
        (
            node
            for node in above
            if isinstance(node, cst.FunctionDef | cst.Lambda)
            and any(inner is parameter for inner in walk(node.params))
        ),
        None,
    )
    if owner is None:
        return False
    count = 0
    for node in walk(owner.body):
        match node:
            case cst.Name(value=found) if found == name:
                count += 1
            case cst.Arg(keyword=cst.Name(value=found)) if found == name:
                count -= 1
            case cst.Attribute(attr=cst.Name(value=found)) if found == name:
                count -= 1
    return count == 1


def _name_in(text: str) -> str:
    """Return the name that an expression such as `self.training` starts with; empty without one."""
    first = text.partition(".")[0]
    return first if first.isidentifier() and first not in {"True", "False", "None"} else ""


def _enclosing_parameters(above: Iterable[cst.CSTNode]) -> Iterator[cst.Param]:
    """Yield the parameters of the functions among the nodes above one."""
    for node in above:
        if isinstance(node, cst.FunctionDef | cst.Lambda):
            listed = node.params
            yield from (*listed.posonly_params, *listed.params, *listed.kwonly_params)
            for star in (listed.star_arg, listed.star_kwarg):
                if isinstance(star, cst.Param):
                    yield star


def _text(node: cst.CSTNode) -> str:
    return cst.Module([]).code_for_node(node)


def _edit(target: Target, where: Range, lines: Sequence[str], path: str) -> Edit | None:
    match target.place:
        case Place.OVER:
            start, end = (where.line, where.column), (where.end_line, where.end_column)
        case Place.AFTER:
            start = end = (where.end_line, where.end_column)
        case Place.LAST_INSIDE:
            start = end = (where.end_line, where.end_column - 1)
        case Place.LINE_BEFORE | Place.LINE_AFTER:
            return _line_edit(target, where, lines, path)
    return Edit(path, *start, *end, target.text)


def _line_edit(target: Target, where: Range, lines: Sequence[str], path: str) -> Edit | None:
    """Insert a line; None where another statement stands on the same line."""
    first, last = lines[where.line - 1], lines[where.end_line - 1]
    indentation = first[: where.column - 1]
    if not _INDENTATION.fullmatch(indentation):
        return None
    if target.place is Place.LINE_BEFORE:
        newline = first[len(first.rstrip("\r\n")) :] or "\n"
        return Edit(path, where.line, 1, where.line, 1, f"{indentation}{target.text}{newline}")
    if where.end_column == 1:  # a block ends where the next line begins
        return Edit(path, where.end_line, 1, where.end_line, 1, f"{indentation}{target.text}\n")
    if not _BLANK_OR_COMMENT.fullmatch(last[where.end_column - 1 :]):
        return None
    code = last.rstrip("\r\n")
    newline = last[len(code) :] or "\n"
    column = len(code) + 1
    text = f"{newline}{indentation}{target.text}"
    return Edit(path, where.end_line, column, where.end_line, column, text)
