"""Names of models whose mode other code of a file may have changed before a function runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import libcst as cst

from bncheck.source.module import SourceModule, statements
from bncheck.source.outline import body_text
from bncheck.source.timeline import classes
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import mentions

_CHANGE = re.compile(r"\.(?:eval|train)\(")
_CHANGED = re.compile(r"\w+$")


def changed_elsewhere(
    module: SourceModule, node: cst.FunctionDef, owner: cst.ClassDef | None
) -> frozenset[str]:
    """Return the names of what other functions of a file, or its main part, change the mode of.

    What a function does itself, or by those that it names, is seen when it is followed, and so is
    what the file did before.
    """
    text = module.text
    if not _CHANGE.search(text):
        return frozenset()
    main = text.find("__main__")
    found = set(_changed(text[main:])) if main >= 0 else set()
    followed = set(_with_those_named(module, node, owner))
    for function in _functions(module):
        if function not in followed:
            inside = body_text(function)
            found |= _changed(text if inside is None else inside)
    return frozenset(found)


@lru_cache(maxsize=1024)
def _changed(text: str) -> frozenset[str]:
    """Return the last names of what a text calls `eval` or `train` of."""
    found = set()
    for call in _CHANGE.finditer(text):
        line = text[text.rfind("\n", 0, call.start()) + 1 : call.start()]
        name = _CHANGED.search(line.removesuffix(".module"))
        if name is not None:
            found.add(name[0])
    return frozenset(found)


def _functions(module: SourceModule) -> Iterator[cst.FunctionDef]:
    """Yield the functions of a file and the methods of its classes."""
    for statement in statements(module.tree.body):
        match statement:
            case cst.FunctionDef():
                yield statement
            case cst.ClassDef():
                members = classes.members(statement).values()
                yield from (m for m in members if isinstance(m, cst.FunctionDef))


def _with_those_named(
    module: SourceModule, node: cst.FunctionDef, owner: cst.ClassDef | None
) -> Iterator[cst.FunctionDef]:
    """Yield a function and those of its file and class that it names, and so on."""
    known = {
        statement.name.value: statement
        for statement in statements(module.tree.body)
        if isinstance(statement, cst.FunctionDef)
    }
    names = {node.name.value}
    if owner is not None:
        members = classes.members(owner).items()
        known |= {name: m for name, m in members if isinstance(m, cst.FunctionDef)}
        names.add("__init__")  # It makes the receiver.
    known[node.name.value] = node
    while names:
        function = known.pop(names.pop(), None)
        if function is not None:
            yield function
            names |= mentions(function.body) & known.keys()


def leave_averages(body: Run, functions: Iterable[cst.FunctionDef]) -> None:
    """Note that functions which were not followed have the averages at the top of their file."""
    if "AveragedModel" not in body.frame.module.text:
        return
    named = frozenset[str]().union(*(mentions(function.body) for function in functions))
    kept = [value for name, value in body.frame.names.items() if name in named]
    body.escape(body.frame.module.tree, kept, "")
