"""A tree whose bodies are parsed late is the tree that libcst makes of the whole file."""

from __future__ import annotations

from pathlib import Path

import libcst as cst
import pytest

from bncheck.source.module import SourceModule, parse
from bncheck.source.outline import LazyBlock, unread
from bncheck.source.positions import locate
from bncheck.worker import lint_source

SOURCES = {
    "comments": """\
        # of the file

        class A(B):  # of the class
            # before the docstring
            \"\"\"Text.

        not indented
            \"\"\"
            x = 1; y = 2  # of the line

            # before the method
            @decorated(1)
            # between
            @again
            def f(self, a=(1,
                2)) -> int:
                # first
                b = a
                if a:
                    return 1
                    # inner footer
                # footer
            # footer of the class, or of the method
        # at the margin
              # odd

            async def g(self):
                @inner
                def h():
                    return 1
                return await h()

        # last
        z = 1
        """,
    "two indents": """\
        class A:
          def f(self):
            if 1:
                   x = 1
                   y = 2
            return 2

          class B:
                x = 1
                def g(self):
                 a = 1
                 b = 2
                 return a

        def f():
        \tif 1:
        \t\treturn 2
        \telse:
        \t\treturn 3
        """,
    "no last newline": "def f():\n    a = 1\n    b = 2\n    return a",
    "blanks at the end": "def f():\n    a = 1\n    b = 2\n    return a\n    \n   \n# end\n",
    "on the line of the head": """\
        class A: x = 1; y = 2
        def f(): return \\
            1 + \\
            2
        class B:
            x = \\
                1; \\
            y = 2
            z = 3 \\

        w = 4
        """,
    "defined twice": """\
        if x:
            def f():
                a = 1
                b = 2
                return a
        else:
            def f():
                return 1
        def f():
            a = 1
            b = 2
            return b
        """,
    "windows": "def f():\r\n    a = 1\r\n    b = 2\r\n    return a\r\n",
    "form feed": "def f():\n    a = 1\n\x0c\n    b = 2\n    return a\n",
    "latin": "# -*- coding: latin-1 -*-\ndef f():\n    a = '\xe9'\n    b = 2\n    return a\n",
    "mark": "\ufeffdef f():\n    a = 1\n    b = 2\n    return a\n",
}


def margin(text: str) -> str:
    lines = text.split("\n")
    width = len(lines[0]) - len(lines[0].lstrip(" "))
    return "\n".join(line[width:] if line[:width].isspace() else line for line in lines)


def read(source: str, *, whole: bool) -> SourceModule:
    encoding = "latin-1" if "latin-1" in source else "utf-8"
    return parse("some.py", "some", margin(source).encode(encoding), whole=whole)


def plain(node: cst.CSTNode) -> None:
    """Make ordinary blocks of late ones: libcst tells trees of different types apart."""
    stack = [node]
    while stack:
        node = stack.pop()
        body = getattr(node, "body", None)
        if isinstance(body, LazyBlock):
            block = cst.IndentedBlock(body.body, body.header, body.indent, body.footer)
            object.__setattr__(node, "body", block)
        stack.extend(node.children)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_same_tree(source: str) -> None:
    late, whole = read(source, whole=False), read(source, whole=True)
    assert late.text == whole.text
    assert list(late.bindings) == list(whole.bindings)
    assert late.tree.code == whole.tree.code
    plain(late.tree)
    assert late.tree.deep_equals(whole.tree)


@pytest.mark.parametrize("path", sorted(Path("bncheck/source").rglob("*.py")), ids=str)
def test_same_tree_of_real_files(path: Path) -> None:
    late, whole = (parse("a.py", "a", path.read_bytes(), whole=way) for way in (False, True))
    plain(late.tree)
    assert late.tree.deep_equals(whole.tree)


def test_bodies_wait_until_they_are_read() -> None:
    module = read(SOURCES["comments"], whole=False)
    found = module.bindings["A"][0]
    assert isinstance(found, cst.ClassDef)
    assert "await h()" in (unread(found) or "")
    method = found.body.body[2]
    assert isinstance(method, cst.FunctionDef)
    assert unread(found) is None
    assert "inner footer" in (unread(method) or "")
    statement = method.body.body[0]
    assert locate(module.tree, [statement])[id(statement)].line == 18
    assert method.body.body[0] is statement


REFUSED = """
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        (a): int = 1
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.norm(self.conv(x))
"""
"""Python takes an annotated name in parentheses; libcst doesn't."""


def test_body_that_only_python_takes() -> None:
    """The file is then parsed whole, and is what it always was: not read."""
    compile(REFUSED, "<test>", "exec")
    assert [finding.code for finding in lint_source(REFUSED)] == ["BN001"]
