"""The tree that readers look at is in kind and shape the one that libcst makes of the file."""

from __future__ import annotations

from pathlib import Path

import libcst as cst
import pytest

from bncheck.source.exact import exact
from bncheck.source.module import SourceModule, parse
from bncheck.source.outline import LazyBlock, body_text
from bncheck.source.walk import fields, walk
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


SYNTAX = """
import a, b.c.d as e
from . import f
from ..g.h import (i as j, k,)
from l import *
a = b, *c = d = yield_of(1_000, 0x1F, 1.5e-3, 2j, ..., None, True)
a += 1; b //= 2; c @= d; e **= f; g <<= 1; h >>= 1; i &= 1; j |= 1; k ^= 1; l -= 1; m *= 2
n: int = 1; o: "str"; p.q: list[int]; r[0] /= 1; s %= 2
text = "one" 'two' b"" rb'\\x' "" '''three "quotes" ''' if a else f"{a!r:>{b}}" u"four"
text = ("one"
        "two"); other = "three"
accents = "\u00e9\u00e9", call("\u00e9")[1:2, ::3, (4, 5), (6), *rest], a[(1, 2)], a[()], a[b,]
call(*a, b, c=1, *d, e=2, **f)(x for x in y)(lambda: 0, lambda a, /, b=1, *c, d, e=2, **f: a)
call(a, (b), c=(d), ** {}, key=[*e, f], last={**g, "h": i, 1: {2, *j}})
chained = a < b <= c != d is not e is f not in g in h == i > j >= k
logic = not a and b or c and d or (e or f) if g else (h if i else j), -k + +l - ~m ** n % o @ p
sets = {x for y in z if a if b for x in y}, {x: y for x, y in z}, [x async for x in y], (yield)
assert a, b; assert c
del a; del a, b[0]; del (c, d); del (e)
global_value = (walrus := 1)
if a: b
elif c:
    d
else:
    if e: f; g
    elif h: i
if a:
    b
else:
    c

if a: pass
else: pass
for x, in y: break
else:
    pass
while (a):
    continue
else:
    pass
with a as b, (c): pass
with (a as (b, c), d as e.f,):
    pass
try:
    raise
except (A, B) as c:
    raise A from b
except D:
    raise A(1)
except:
    pass
else:
    a
finally:
    b
try:
    a
finally:
    b
match a, b:
    case [c, *d] if e:
        f
    case {"g": h, **i}: j
@a.b(c)
@d
class A(B, *c, metaclass=M, **d):
    "text"
    x = 1
    @staticmethod
    def f(a, b: int = 1, /, c=2, *d: int, e, f=3, **g) -> "A": return a

    class Inner: pass
    if x:
        async def g(self, *, a): await a; global b; nonlocal_value = 1
def f(a, /): pass
def g():
    x = 1
    def h():
        nonlocal x, y
        return
    @d
    class A:
        def i(self):
            return 1
    async with a as b, c:
        async for d in e:
            yield from f
            await g
    return [1, *a], *b
def h():
    # comment
    \"\"\"Text
  of lines.\"\"\"

    try:
        pass
    except* A as b:
        pass
"""
"""Every kind of statement and expression."""
SOURCES["syntax"] = SYNTAX


def margin(text: str) -> str:
    lines = text.split("\n")
    width = len(lines[0]) - len(lines[0].lstrip(" "))
    return "\n".join(line[width:] if line[:width].isspace() else line for line in lines)


def read(source: str, *, whole: bool, keep: bool = False) -> SourceModule:
    encoding = "latin-1" if "latin-1" in source else "utf-8"
    return parse("some.py", "some", margin(source).encode(encoding), whole=whole, keep=keep)


def shape(node: object) -> object:
    """Return what a tree means: its nodes without white space and punctuation."""
    if isinstance(node, list | tuple):
        return [shape(each) for each in node]
    if not isinstance(node, cst.CSTNode):
        return node
    kind = cst.IndentedBlock if isinstance(node, LazyBlock) else node.__class__
    names = {*fields(kind), *({"value", "star", "annotation", "asynchronous"} & kind_fields(kind))}
    return kind.__name__, {name: shape(getattr(node, name)) for name in sorted(names)}


def kind_fields(kind: type[cst.CSTNode]) -> set[str]:
    return set(kind.__dataclass_fields__)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_same_tree(source: str, keep: bool) -> None:
    late, whole = read(source, whole=False, keep=keep), read(source, whole=True)
    assert late.text == whole.text
    assert list(late.bindings) == list(whole.bindings)
    assert shape(late.tree.body) == shape(whole.tree.body)


@pytest.mark.parametrize("path", sorted(Path("bncheck/source").rglob("*.py")), ids=str)
def test_same_tree_of_real_files(path: Path) -> None:
    text = path.read_bytes()
    whole = shape(parse("a.py", "a", text, whole=True).tree.body)
    for keep in (False, True):
        late = parse("a.py", "a", text, keep=keep)
        assert not late.is_exact
        assert shape(late.tree.body) == whole


@pytest.mark.parametrize("source", ["windows", "form feed", "latin", "mark"])
def test_what_libcst_reads_itself(source: str) -> None:
    assert read(SOURCES[source], whole=False).is_exact


def test_bodies_wait_until_they_are_read() -> None:
    module = read(SOURCES["comments"], whole=False)
    found = module.bindings["A"][0]
    assert isinstance(found, cst.ClassDef)
    method = found.body.body[2]
    assert isinstance(method, cst.FunctionDef)
    assert isinstance(method.body, LazyBlock)
    assert method.body.waits
    assert (body_text(method) or "").startswith("        b = a")
    statement = method.body.body[0]
    assert not method.body.waits
    assert method.body.body[0] is statement
    written = exact(module, [statement])
    node = written.nodes[id(statement)]
    assert written.ranges([node])[id(node)].line == 18


@pytest.mark.parametrize(
    ("source", "count"),
    [("comments", 2), ("two indents", 3), ("no last newline", 1), ("blanks at the end", 1)],
)
def test_where_nodes_of_functions_stand(source: str, count: int) -> None:
    """The functions by themselves tell the same as the whole file."""
    module = read(SOURCES[source], whole=False)
    nodes = [
        node
        for function in walk(module.tree)
        if isinstance(function, cst.FunctionDef) and isinstance(function.body, LazyBlock)
        for node in walk(function)
    ]
    alone, whole = exact(module, nodes), exact(module, [module.tree, *nodes])
    here, there = alone.ranges(alone.nodes.values()), whole.ranges(whole.nodes.values())
    assert (len(alone.pieces), len(whole.pieces)) == (count, 1)
    for node in nodes:
        if not isinstance(node, cst.IndentedBlock):  # where one ends depends on what follows
            found = [here.get(id(alone.nodes[id(node)])), there.get(id(whole.nodes[id(node)]))]
            assert found[0] == found[1]
            assert found[0] is not None


def test_what_no_body_holds_is_not_found() -> None:
    module = read(SOURCES["comments"], whole=False)
    assert exact(module, [cst.Name("a"), "some text"]).nodes == {}


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
