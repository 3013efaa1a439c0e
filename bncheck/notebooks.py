"""Jupyter notebooks: their code cells as one Python source, and back.

Cells follow each other as they stand in the notebook, each behind a line that tells its number.
What IPython understands and Python does not (`%matplotlib inline`, `!pip install`, `%%bash`) is put
into comments that say what stood there, so that fixes can be written back to the cell, and so is a
cell that nothing understands: the others run without it. Format:
https://nbformat.readthedocs.io/en/latest/format_description.html. This imports no libcst.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bncheck.discover import NOTEBOOK
from bncheck.errors import BNCheckError
from bncheck.findings import Confidence, Edit, Finding, Severity
from bncheck.pages import all_needs
from bncheck.syntax import UNREADABLE, in_present_syntax, python_tree

_CELL = re.compile(r"# bncheck: cell (\d+)$")
_STATEMENT = "pass  # IPython: "
_COMMENT = "# IPython: "
_MAGIC = re.compile(r"[ \t]*(?:[%!?]|[\w.]+\?{1,2}[ \t]*$|[\w., \t]+=[ \t]*(?:!|%\w))")
"""`%magic`, `!command`, `?help`, `help?`, `lines = !ls` and `value = %magic`."""
_CELL_OF_PYTHON = re.compile(r"%%(?:capture|debug|prun|python3?|time|timeit)\b")
"""Magics whose cell is Python nonetheless, but for the line of the magic."""


class NotebookError(BNCheckError):
    """What a notebook's file says is no notebook, or an old one; the text says what to do."""


@dataclass
class Sources:
    """The files of a run as Python."""

    texts: dict[str, bytes] = field(default_factory=dict)
    unreadable: list[Finding] = field(default_factory=list)
    """About the notebooks that are none."""


def as_sources(contents: Mapping[str, bytes]) -> Sources:
    """Return the files as Python, by path: notebooks by their cells, others as they are.

    A notebook that says nothing of what any rule looks for, or is of another language, is empty.
    """
    found = Sources()
    needs = all_needs()
    for path, content in contents.items():
        if not path.endswith(NOTEBOOK):
            found.texts[path] = content
        elif not any(need in content for need in needs):
            found.texts[path] = b""
        else:
            try:
                found.texts[path] = as_python(content)
            except NotebookError as problem:
                found.unreadable.append(_unreadable(path, str(problem)))
    return found


def as_files(
    contents: Mapping[str, bytes], before: Mapping[str, bytes], after: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return the files as they are written when their sources have changed, by path.

    Raises NotebookError as `with_python` does; nothing is written before all are made.
    """
    written = {}
    for path, content in contents.items():
        if not path.endswith(NOTEBOOK):
            written[path] = after[path]
        elif path in after and after[path] != before[path]:
            written[path] = with_python(content, after[path])
        else:
            written[path] = content
    return written


def as_python(content: bytes) -> bytes:
    """Return the code cells of a notebook as one source; nothing, where they are not Python.

    Raises NotebookError for what is no notebook of format 4 or later.
    """
    notebook = _read(content)
    parts = []
    for number, cell in _code_cells(notebook):
        parts += [f"# bncheck: cell {number}", _as_python(_text(cell))]
    return "\n".join([*parts, ""]).encode() if parts else b""


def with_python(content: bytes, source: bytes) -> bytes:
    """Return a notebook whose code cells are those of a source that was made of it and changed.

    All else stays, the indentation of the file among it. Raises NotebookError where the source
    does not name the notebook's code cells in their order.
    """
    notebook = _read(content)
    texts: dict[int, list[str]] = {}
    lines: list[str] = []
    for line in source.decode().split("\n")[:-1]:
        if begun := _CELL.match(line):
            lines = texts[int(begun[1])] = []
        else:
            lines.append(line)
    cells = dict(_code_cells(notebook))
    if list(texts) != list(cells):
        raise NotebookError("the cells of a notebook can't be told apart; mend it by hand")
    for number, cell in cells.items():
        text = "\n".join(map(_with_magic, texts[number]))
        if text != _text(cell):
            whole = isinstance(cell["source"], str)
            cell["source"] = text if whole else text.splitlines(keepends=True)
    return _written(notebook, like=content.decode())


def in_cells(finding: Finding, sources: Mapping[str, bytes]) -> Finding:
    """Return a finding whose lines, and those of its edits, are counted in their notebook's cells.

    One that touches no notebook stays as it is.
    """
    fix = finding.fix
    if fix is not None:
        edits = (_edit_in_its_cell(edit, sources) for edit in fix.edits)
        fix = replace(fix, edits=tuple(edits))
    number, above = _cell(finding.path, finding.line, sources)
    line, end_line = finding.line - above, finding.end_line - above
    return replace(finding, cell=number, line=line, end_line=end_line, fix=fix)


def _edit_in_its_cell(edit: Edit, sources: Mapping[str, bytes]) -> Edit:
    number, above = _cell(edit.path, edit.line, sources)
    return replace(edit, cell=number, line=edit.line - above, end_line=edit.end_line - above)


def _cell(path: str, line: int, sources: Mapping[str, bytes]) -> tuple[int | None, int]:
    """Return the number of the cell that a line stands in, and how many lines stand above it."""
    if path.endswith(NOTEBOOK):
        lines = sources[path].decode().split("\n")[: line - 1]
        for above in range(len(lines), 0, -1):
            if begun := _CELL.match(lines[above - 1]):
                return int(begun[1]), above
    return None, 0


def _read(content: bytes) -> dict[str, Any]:
    try:
        notebook = json.loads(content)
    except ValueError as problem:
        raise NotebookError(f"not read as a notebook: {problem}") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise NotebookError("not read as a notebook: it has no cells, or is of an old format")
    return notebook


def _code_cells(notebook: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return the code cells that hold a text, with their numbers; none where it is not Python."""
    about = notebook.get("metadata")
    kernel = about.get("kernelspec") if isinstance(about, dict) else None
    info = about.get("language_info") if isinstance(about, dict) else None
    said = [
        part[key]
        for part, key in ((kernel, "language"), (info, "name"))
        if isinstance(part, dict) and key in part
    ]
    if said and "python" not in said:
        return []
    return [
        (number, cell)
        for number, cell in enumerate(notebook["cells"], 1)
        if isinstance(cell, dict)
        and cell.get("cell_type") == "code"
        and isinstance(cell.get("source"), str | list)
    ]


def _text(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(map(str, source))


def _as_python(text: str) -> str:
    """Return a cell in which each line that is IPython's alone is a comment, or has one.

    A cell that is no Python at all is all comments: the others run without it.
    """
    lines = text.split("\n")
    if not text.startswith("%%") or _CELL_OF_PYTHON.match(text):
        for candidate in (text, "\n".join(_plain_lines(lines))):
            if _is_python(candidate):
                return candidate
    return "\n".join(f"{_COMMENT}{line}" for line in lines)


def _is_python(text: str) -> bool:
    try:
        return python_tree(in_present_syntax(text)) is not None
    except RecursionError:
        return False


def _plain_lines(lines: list[str]) -> list[str]:
    plain = []
    goes_on = False
    for line in lines:
        if goes_on:
            plain.append(f"{_COMMENT}{line}")
        elif _MAGIC.match(line):
            indentation = line[: len(line) - len(line.lstrip())]
            plain.append(f"{indentation}{_STATEMENT}{line.lstrip()}")
        else:
            plain.append(line)
            continue
        goes_on = line.endswith("\\")
    return plain


def _with_magic(line: str) -> str:
    """Return a line as the cell has it."""
    if line.startswith(_COMMENT):
        return line.removeprefix(_COMMENT)
    indentation, marked, rest = line.partition(_STATEMENT)
    return f"{indentation}{rest}" if marked and not indentation.strip() else line


def _written(notebook: dict[str, Any], like: str) -> bytes:
    """Write a notebook with the indentation and the last line that its file had."""
    indentation = re.match(r"\{\r?\n([ \t]+)", like)
    text = json.dumps(
        notebook, ensure_ascii=False, indent=indentation[1] if indentation is not None else None
    )
    text = f"{text}\n" if like.endswith("\n") else text
    return (text.replace("\n", "\r\n") if "\r\n" in like else text).encode()


def _unreadable(path: str, reason: str) -> Finding:
    return Finding(
        code=UNREADABLE,
        name="syntax-error",
        path=path,
        line=1,
        column=1,
        end_line=1,
        end_column=2,
        message=reason,
        hint="open and save it with Jupyter, or exclude it; the other files were linted",
        severity=Severity.ERROR,
        confidence=Confidence.PROVEN,
    )
