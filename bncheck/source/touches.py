"""Code that takes a parameter of a layer for a tensor, without asking whether there is one.

It is looked at only where a fix would leave a layer without that parameter, which is then None.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TORCH_LAYER = re.compile(
    r"_?(?:Lazy)?(?:Conv(?:Transpose)?(?:[123]d|Nd)|Bilinear|Linear|(?:Sync)?Batch_?Norm\w*"
    r"|\w*Norm(?:Base|[123]d)?|Embedding(?:Bag)?|LSTM|GRU|RNN|PReLU|Parameter|Identity)"
)
"""Names under which torch has layers with weights: none of these is another of them."""
_KINDS = ("conv", "linear", "norm", "embedding", "lstm", "gru", "rnn", "prelu")


@dataclass(frozen=True)
class Touch:
    """One expression that fails where the parameter is None."""

    line: int
    definition: str
    """The function or class of the module level that it stands in; empty outside of them."""
    text: str
    owner: tuple[str, ...]
    """What has the parameter: `("self", "net", "conv")`, or `("m",)`; subscripts left out."""
    types: frozenset[str] = frozenset()
    """The classes of which the owner was found to be one; empty where nothing was asked."""
    words: frozenset[str] = frozenset()
    """Pieces that the name of the owner's class was found to contain."""
    made: tuple[tuple[int, int, str], ...] = ()
    """What the owner is assigned in the same definition: the first line, the last, and the text."""

    def may_be(self, type_name: str, lines: tuple[int, int] | None, makers: Sequence[str]) -> bool:
        """Tell whether the owner may be a layer of a type of torch's.

        `lines` are those on which it is constructed, None if in another file; `makers` are
        definitions that may construct it.
        """
        short = type_name.rpartition(".")[2].replace("Lazy", "")
        if self.types and all(_differs(known, short) for known in self.types):
            return False
        if self.words and not any(word.lower() in short.lower() for word in self.words):
            return False
        return not self.made or any(
            (lines is not None and start <= lines[1] and lines[0] <= end)
            or any(maker in text and re.search(rf"\b{maker}\b", text) for maker in makers)
            for start, end, text in self.made
        )


def touches(text: str, parameter: str) -> Iterator[Touch]:
    """Yield what takes `parameter` of any object for a tensor, unless it is asked for before.

    Raises SyntaxError, ValueError or RecursionError for what Python does not parse.
    """
    lines = text.split("\n")
    for statement in ast.parse(text).body:
        if not any(f".{parameter}" in line for line in _lines_of(statement, lines)):
            continue
        named = isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        definition = statement.name if named else ""  # type: ignore[attr-defined]
        yield from _Search(parameter, definition, statement).found


def _lines_of(statement: ast.stmt, lines: list[str]) -> list[str]:
    return lines[statement.lineno - 1 : statement.end_lineno]


class _Search(ast.NodeVisitor):
    """Goes through a definition with the tests that hold where it stands."""

    def __init__(self, parameter: str, definition: str, root: ast.stmt) -> None:
        self.parameter, self.definition, self.root = parameter, definition, root
        self.tests: list[ast.expr] = []
        self.found: list[Touch] = []
        self.visit(root)

    def visit_If(self, node: ast.If) -> None:
        self._under(node.test, node.body)
        asks = self._asks(node.test)
        for other in node.orelse if not asks else ():
            self.visit(other)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._under(node.test, [node.body])
        if not self._asks(node.test):
            self.visit(node.orelse)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        if not self._asks(node):
            self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        """Pass over the body: what may fail there is taken to be caught."""
        for other in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(other)

    def generic_visit(self, node: ast.AST) -> None:
        self._look_at(node)
        for _, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                self.visit(value)
            elif isinstance(value, list):
                for part in value:
                    if isinstance(part, ast.AST):
                        self.visit(part)
                    if isinstance(part, ast.If) and self._leaves(part):
                        break  # the rest runs only where there is a parameter

    def _under(self, test: ast.expr, body: Sequence[ast.AST]) -> None:
        if self._asks(test):
            return
        self.tests.append(test)
        for part in body:
            self.visit(part)
            if isinstance(part, ast.If) and self._leaves(part):
                break
        self.tests.pop()

    def _leaves(self, node: ast.If) -> bool:
        return self._asks(node.test) and isinstance(
            node.body[-1], ast.Return | ast.Continue | ast.Break | ast.Raise
        )

    def _asks(self, test: ast.expr) -> bool:
        """Tell whether a test asks for the parameter; that an attribute exists says nothing."""
        for node in ast.walk(test):
            match node:
                case ast.Call(func=ast.Name(id="hasattr")):
                    continue
                case ast.Attribute(attr=name) | ast.Name(id=name) if self.parameter in name:
                    return True
                case ast.Call(func=ast.Name(id="len"), args=[counted]):
                    # `len(list(m.parameters())) > 1`: one with a bias has more of them.
                    if any(_calls(inner, "parameters") for inner in ast.walk(counted)):
                        return True
                case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=name), *_]):
                    if name == self.parameter:
                        return True
        return False

    def _look_at(self, node: ast.AST) -> None:
        match node:
            case (
                ast.Attribute(value=ast.Attribute() as used)
                | ast.Subscript(value=ast.Attribute() as used)
            ):
                self._note(used, node)
            case ast.AugAssign(target=ast.Attribute() as used):
                self._note(used, node)
            case ast.Call(func=function, args=arguments, keywords=keywords):
                name = ast.unparse(function)
                if name.endswith("_") or re.search(r"\binit\b|_init\b|\binit_", name):
                    for given in (*arguments, *(keyword.value for keyword in keywords)):
                        self._note(given, node)

    def _note(self, used: ast.expr, whole: ast.AST) -> None:
        if not isinstance(used, ast.Attribute) or used.attr != self.parameter:
            return
        owner = _chain(used.value)
        if owner is None:
            return
        types, words = self._narrowed(used.value)
        self.found.append(
            Touch(
                used.lineno,
                self.definition,
                ast.unparse(whole),
                owner,
                types,
                words,
                tuple(self._made(owner)),
            )
        )

    def _narrowed(self, owner: ast.expr) -> tuple[frozenset[str], frozenset[str]]:
        types: set[str] = set()
        words: set[str] = set()
        for test in self.tests:
            if isinstance(test, ast.UnaryOp):
                continue
            for node in ast.walk(test):
                match node:
                    case ast.Call(func=ast.Name(id="isinstance"), args=[asked, of]):
                        if ast.dump(asked) == ast.dump(owner):
                            parts = of.elts if isinstance(of, ast.Tuple) else [of]
                            types |= {ast.unparse(part).rpartition(".")[2] for part in parts}
                    case ast.Call(
                        func=ast.Attribute(attr="find" | "startswith"),
                        args=[ast.Constant(value=str(word))],
                    ):
                        words.add(word)
                    case ast.Compare(left=ast.Constant(value=str(word)), ops=[ast.In()]) if (
                        "name" in ast.unparse(node.comparators[0]).lower()
                    ):
                        words.add(word)
        known = all(any(kind in word.lower() for kind in _KINDS) for word in words)
        return frozenset(types), frozenset(words) if known else frozenset()

    def _made(self, owner: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
        """Yield what the owner is assigned; nothing where that may be elsewhere."""
        for node in ast.walk(self.root):
            match node:
                case ast.Assign(targets=targets, value=value):
                    pass
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    targets = [target]
                case _:
                    continue
            if any(_chain(target) == owner for target in targets):
                yield node.lineno, node.end_lineno or node.lineno, ast.unparse(value)


def _calls(node: ast.AST, method: str) -> bool:
    """Tell whether a node is a call of a method without arguments."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name), args=[], keywords=[]):
            return name == method
    return False


def _chain(node: ast.expr) -> tuple[str, ...] | None:
    """Return the names of `a.b[0].c`; None for what is not made of names."""
    names: list[str] = []
    while True:
        match node:
            case ast.Subscript(value=inner):
                node = inner
            case ast.Attribute(value=inner, attr=name):
                names.append(name)
                node = inner
            case ast.Name(id=name):
                return (name, *reversed(names))
            case _:
                return None


def _differs(known: str, type_name: str) -> bool:
    """Tell whether an object of a class is surely none of another."""
    return (
        known.replace("Lazy", "") != type_name
        and not known.startswith("_Conv")
        and _TORCH_LAYER.fullmatch(known) is not None
    )
