"""List where BN101 and a generous text search for biases before a norm disagree, to be judged.

For code whose networks can't be built here. The search takes every convolution or linear layer
without `bias=False` that stands right before a norm in the arguments of a call, in a list or in
rows of `append`, `add_module` and `+=`, or whose attribute a norm of its class is applied to in a
forward. It is no truth: read what it finds alone, and what the linter finds alone.

    python benchmarks/structure_text.py FOLDER [FOLDER ...]
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from truth.observe import Position  # noqa: E402
from truth.reading import Reading, read  # noqa: E402

from bncheck.findings import Confidence  # noqa: E402

_LAYER = re.compile(r"(Conv(Transpose)?[123]d|Linear|Lazy(Conv|Linear)\w*)$")
_NORM = re.compile(r"(Batch|Instance)Norm\w*$|^norm(_layer)?$|BN$")


def candidates(path: Path) -> Iterator[tuple[int, int]]:
    """Yield line and column of each layer that may have a bias and stands before a norm."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        calls: Iterable[ast.Call] = ()
        match node:
            case ast.Call(args=items) | ast.List(elts=items) | ast.Tuple(elts=items):
                calls = _adjacent([_value(item) for item in items])
            case ast.ClassDef():
                calls = _in_forward(node)
        yield from ((call.lineno, call.col_offset + 1) for call in calls)
        for body in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(body, list):
                yield from ((c.lineno, c.col_offset + 1) for c in _adjacent(_appended(body)))


def _adjacent(items: list[ast.AST | None]) -> Iterator[ast.Call]:
    for one, other in pairwise(items):
        if isinstance(one, ast.Call) and _may_have_bias(one) and _is_norm(other):
            yield one


def _value(item: ast.AST) -> ast.AST:
    """Return the layer of an item, which may be a pair of a name and a layer."""
    return item.elts[1] if isinstance(item, ast.Tuple) and len(item.elts) == 2 else item


def _appended(body: list[ast.stmt]) -> list[ast.AST | None]:
    """Return what statements in a row append to a list or a container; None between."""
    found: list[ast.AST | None] = []
    for statement in body:
        match statement:
            case ast.Expr(value=ast.Call(args=[*_, last]) as call) if _name(call) in {
                "append",
                "add_module",
            }:
                found.append(last)
            case ast.AugAssign(value=ast.List(elts=items)):
                found += items
            case ast.If():
                norms = [inner for inner in ast.walk(statement) if _is_norm(inner)]
                found.append(norms[0] if norms else None)
            case _:
                found.append(None)
    return found


def _in_forward(node: ast.ClassDef) -> Iterator[ast.Call]:
    layers: dict[str, ast.Call] = {}
    norms: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)]):
                if isinstance(inner.value, ast.Call) and _may_have_bias(inner.value):
                    layers[name] = inner.value
                if any(map(_is_norm, ast.walk(inner.value))):
                    norms.add(name)
    for method in node.body:
        if not isinstance(method, ast.FunctionDef) or method.name == "__init__":
            continue
        text = ast.unparse(method)
        for name, layer in layers.items():
            for norm in norms:
                nested = rf"self\.{norm}\(self\.{name}\("
                rows = rf"(\w+) = self\.{name}\(.*\n\s*\w+ = .*self\.{norm}\(\1\)"
                if re.search(nested, text) or re.search(rows, text):
                    yield layer


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _may_have_bias(call: ast.Call) -> bool:
    name = _name(call)
    place = 2 if "Linear" in name else 7
    given = [keyword.value for keyword in call.keywords if keyword.arg == "bias"]
    given += call.args[place : place + 1]
    off = any(isinstance(value, ast.Constant) and not value.value for value in given)
    return bool(_LAYER.search(name)) and not off


def _is_norm(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call) and bool(_NORM.search(_name(node)))


def compare(root: Path) -> None:
    """Print the counts of one folder, and each place where the two disagree."""
    reading: Reading = read(root)
    shown = {p for p, confidence in reading.findings.items() if confidence != Confidence.POSSIBLE}
    found: set[Position] = {
        (str(path.relative_to(root.parent)), *place)
        for path in root.rglob("*.py")
        for place in candidates(path)
    }
    print(f"{root.name}: {len(found)} by text, {len(shown)} findings, {len(found & shown)} both")
    for place in sorted(found - shown):
        seen = reading.sites.get(place)
        possible = "only possible; " if place in reading.findings else ""
        said = possible + seen.reason() if seen is not None else "no layer read at this site"
        print("    only by text {}:{}:{}  {}".format(*place, said))
    for place in sorted(shown - found):
        print("    only a finding {}:{}:{}".format(*place))


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        compare(Path(folder).resolve())
