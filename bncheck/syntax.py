"""Files that are not Python: found without libcst, and said in Python's own words."""

from __future__ import annotations

import ast
import re
import warnings

from bncheck.depth import shallow
from bncheck.findings import Confidence, Finding, Severity

UNREADABLE = "BN001"
"""The code of a file that does not parse. It has no check; it can be ignored, not deselected."""


_OLD_NAME = re.compile(r"\basync(?=\s*=[^=])")
"""`tensor.cuda(async=True)`: up to Python 3.6 `async` was a name."""
_STANDS_FOR_IT = "asynk"
_OLD_STATEMENT = re.compile(
    r"^(?P<before>(?:[^#\n]*[:;])?[ \t]*)"
    r"(?:print(?P<to>[ \t]*>>)|(?P<print>print) (?=[ \t]*[^\s(=.,:)\]}])"
    r"|(?P<except>except[ \t]+(?:\([^()\n]*\)|[\w.]+)[ \t]*)(?P<name>,[ \t]*\w+)(?=[ \t]*:)"
    r"|(?P<raise>raise[ \t]+[\w.]+[ \t]*),)",
    re.MULTILINE,
)
"""`print x`, `print >> file, x`, `except Error, e:` and `raise Error, "text"` of Python 2."""
_TUPLE_OF_PRINT = re.compile(r"((?:^|;)[ \t]*print),")


def in_present_syntax(source: bytes | str) -> bytes | str:
    """Return a text in which what older versions wrote is valid, and stands where it stood.

    `async=` becomes a name of the same length, and Python 2's `print x` the tuple `print,x`.
    """
    if not isinstance(source, str):
        return str(in_present_syntax(source.decode("latin-1"))).encode("latin-1")
    return _OLD_STATEMENT.sub(_present, _OLD_NAME.sub(_STANDS_FOR_IT, source))


def _present(old: re.Match[str]) -> str:
    if old["to"]:
        return f"{old['before']}print,{' ' * (len(old['to']) - 1)}"
    if old["print"]:
        return f"{old['before']}print,"
    if old["except"]:
        return f"{old['before']}{old['except']}{' ' * len(old['name'])}"
    return f"{old['before']}{old['raise']};"


def as_written(line: str) -> str:
    """Return a line of such a text as it stands in the file."""
    return _TUPLE_OF_PRINT.sub(r"\1 ", line.replace(_STANDS_FOR_IT, "async"))


def python_tree(source: bytes | str) -> ast.Module | None:
    """Return Python's own tree of a text; None where it is not Python to the running version.

    Raises RecursionError for a text beyond what Python's own parser takes. libcst's parser is
    native code that recurses without a bound: measured, 5,000 open brackets end the process. No
    text comes to it that did not come here first.
    """
    try:
        return _bounded(source)
    except (RecursionError, MemoryError):
        raise RecursionError("nested too deeply") from None
    except (SyntaxError, ValueError) as problem:
        if "too many" in str(problem):
            raise RecursionError("nested too deeply") from None
    return None


def syntax_finding(path: str, source: bytes | str) -> Finding | None:
    """Return the finding about a text that is not Python.

    Python's own parser takes a tenth of libcst's time, but it knows the syntax of the running
    version only; libcst has the last word.
    """
    try:
        _bounded(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        from bncheck.source.module import UnparsableError, parse

        try:
            parse(path, "", source)
        except UnparsableError:
            return unreadable(path, source)
    return None


def unreadable(path: str, source: bytes | str) -> Finding:
    """Return the finding about a text that libcst does not parse."""
    line, column, reason = 1, 1, "its encoding is not the one it declares, or its syntax is unknown"
    try:
        _bounded(source)
    except SyntaxError as problem:
        line, column = max(1, problem.lineno or 1), max(1, problem.offset or 1)
        reason = problem.msg
    except (ValueError, RecursionError, MemoryError) as problem:
        reason = str(problem) or type(problem).__name__
    text = source if isinstance(source, str) else source.decode("utf-8", "replace")
    lines = text.split("\n")
    return Finding(
        code=UNREADABLE,
        name="syntax-error",
        path=path,
        line=line,
        column=column,
        end_line=line,
        end_column=column + 1,
        message=f"not read as Python: {reason}",
        hint="mend the syntax; the other files were linted",
        severity=Severity.ERROR,
        confidence=Confidence.PROVEN,
        source_line=lines[line - 1].rstrip("\r") if line <= len(lines) else "",
    )


def parsed(source: bytes | str) -> ast.Module:
    """Return Python's own tree; raise SyntaxError, ValueError, RecursionError or MemoryError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Notebooks await outside of functions; libcst takes that in any file.
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = compile(source, "<source>", "exec", flags, dont_inherit=True)
        assert isinstance(tree, ast.Module)
        return tree


def _bounded(source: bytes | str) -> ast.Module:
    with shallow():
        return parsed(source)
