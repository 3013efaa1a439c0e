"""Changes become edits that touch nothing else; one that can't be made surely is not made."""

from __future__ import annotations

import libcst as cst
import pytest

from bncheck.findings import Change, Edit, Fix, InsertLine, Replace, ResolvedFix, SetKeyword
from bncheck.graph import Site
from bncheck.source.edit import apply, resolve, select, targets
from bncheck.source.exact import Exact, exact
from bncheck.source.module import parse
from bncheck.source.walk import walk


def code(written: Exact, node: cst.CSTNode) -> str:
    return cst.Module([]).code_for_node(written.nodes[id(node)])


def changed(text: str, change: type[Change], *arguments: object, at: str) -> str | None:
    """Return the text with the change made at the node whose code is, or begins with, `at`."""
    module = parse("m.py", "m", text)
    written = exact(module, walk(module.tree))
    nodes = list(walk(module.tree))
    statements = [n for n in nodes if isinstance(n, cst.For | cst.SimpleStatementLine)]
    found = [*(node for node in nodes if isinstance(node, cst.Call)), *statements]
    node = next(n for n in found if code(written, n).lstrip("( ").startswith(at))
    fix = Fix("", (change(Site("m.py", node), *arguments),), safe=True)
    planned = targets(fix, written)
    if planned is None:
        return None
    ranges = written.ranges([target.node for target in planned])
    resolved = resolve(fix, planned, ranges, written)
    return None if resolved is None else apply(text, resolved.edits)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("C(3, 4)", "C(3, 4, bias=False)"),
        ("C()", "C(bias=False)"),
        ("C(3, 4,)", "C(3, 4, bias=False,)"),
        ("C(3, bias=True, k=1)", "C(3, bias=False, k=1)"),
        ("C(3, bias = (True))", "C(3, bias = (False))"),
        ("C(3, 4, True)", "C(3, 4, False)"),
        ("C(3, 4, True, 1)", "C(3, 4, False, 1)"),
        ("(C(3))", "(C(3, bias=False))"),
        ("C(\n    3,\n    4,  # why\n)", "C(\n    3,\n    4, bias=False,  # why\n)"),
        ("C(  # why\r\n\t3\r\n)\r\n", "C(  # why\r\n\t3, bias=False\r\n)\r\n"),
        ("C(3, 4)  # \x0c é\n", "C(3, 4, bias=False)  # \x0c é\n"),
        ("é = '𝄞'; C(3)", "é = '𝄞'; C(3, bias=False)"),
        ("C(*sizes)", None),
        ("C(3, **options)", None),
        ("C(3, bias=True, **options)", "C(3, bias=False, **options)"),
        ("C(x for x in y)", None),
        ("B = True\nC(3, bias=B)", "B = True\nC(3, bias=False)"),
        ("def f(b=True):\n  C(3, bias=b)", "def f(b=False):\n  C(3, bias=b)"),
        ("def f(*, b: bool = True):\n  C(3, 4, b)", "def f(*, b: bool = False):\n  C(3, 4, b)"),
        ("def f(b):\n  C(3, bias=b)", None),
        ("def f(b=False):\n  C(3, bias=b)", None),
        ("def f(norm=None):\n  C(3, bias=norm is None)", None),
        ("f = lambda b=True: C(3, bias=b)", "f = lambda b=False: C(3, bias=b)"),
    ],
)
def test_set_keyword(before: str, after: str | None) -> None:
    assert changed(before, SetKeyword, "bias", "False", 2, at="C(") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "def f(self, x):\n  C(x, training=True)",
            "def f(self, x):\n  C(x, training=self.training)",
        ),
        ("def f(self, x):\n  C(x)", "def f(self, x):\n  C(x, training=self.training)"),
        ("def f(x):\n  C(x, training=True)", None),
        ("C(x)", None),
        ("def f(x, mode=True):\n  C(x, training=mode)", None),
        ("def f(self, x, mode=True):\n  C(x, training=mode)", None),
    ],
)
def test_a_value_that_names_something_stands_where_that_is_known(
    before: str, after: str | None
) -> None:
    assert changed(before, SetKeyword, "training", "self.training", 2, at="C(") == after


@pytest.mark.parametrize(
    ("before", "at", "is_after", "result"),
    [
        ("if x:\n    f()\n", "f()", False, "if x:\n    g()\n    f()\n"),
        ("if x:\n    f()  # why\n", "f()", True, "if x:\n    f()  # why\n    g()\n"),
        ("\tf()\r\n".strip("\t"), "f()", False, "g()\r\nf()\r\n"),
        ("f()", "f()", True, "f()\ng()"),
        ("f(\n  1,\n)\nh()\n", "f(", True, "f(\n  1,\n)\ng()\nh()\n"),
        ("for x in y:\n    f()\nh()\n", "for", True, "for x in y:\n    f()\ng()\nh()\n"),
        ("def e():\n    return f()\n", "return", False, "def e():\n    g()\n    return f()\n"),
        ("def e():\n    return f()\n", "return", True, None),
        ("if x: f()\n", "f()", False, None),
        ("f(); h()\n", "f()", True, None),
        ("h(); f()\n", "f()", False, None),
    ],
)
def test_insert_line(before: str, at: str, is_after: bool, result: str | None) -> None:
    assert changed(before, InsertLine, "g()", is_after, at=at) == result


def test_replace() -> None:
    assert changed("x = f( 1 )  # é", Replace, "y", at="f(") == "x = y  # é"


def test_edits_in_another_file_are_not_made() -> None:
    module = parse("m.py", "m", "f()")
    elsewhere = Site("other.py", module.tree)
    written = exact(module, [module.tree])
    assert targets(Fix("", (Replace(elsewhere, ""),), safe=True), written) is None


def test_only_fixes_that_do_not_touch_are_selected_and_equal_ones_once() -> None:
    def fix(*spans: tuple[int, int]) -> ResolvedFix:
        return ResolvedFix("", True, tuple(Edit("m.py", 1, a, 1, b, "") for a, b in spans))

    first, overlapping, other = fix((1, 5), (20, 22)), fix((21, 30)), fix((8, 9))
    assert select([first, overlapping, first, other]) == [first, other]


def test_overlapping_edits_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        apply("abcdef", [Edit("m.py", 1, 1, 1, 4, "x"), Edit("m.py", 1, 3, 1, 5, "y")])
