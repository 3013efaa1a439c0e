"""Names of models whose mode other code of a file may have changed before a function runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain

import libcst as cst

from bncheck.source.module import SourceModule, statements
from bncheck.source.outline import body_text
from bncheck.source.timeline import classes
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Class

_CHANGE = re.compile(r"\.(?:eval|train)\(")
_LOOPED = re.compile(r"\bfor\s+(?:\w+,\s*)*(\w+)\s+in\b")
_CHANGED = re.compile(r"\w+$")


def changed_elsewhere(
    module: SourceModule,
    nodes: list[cst.FunctionDef],
    owner: cst.ClassDef | None,
    bases: Sequence[Class] = (),
) -> frozenset[str]:
    """Return the names of what other functions of a file, or its main part, change the mode of.

    So do methods of a class's bases. What the functions given do, or those that they name, is seen
    when they are followed, and so is what the file did before.
    """
    text = module.text
    others = [base for base in bases if base.module is not module]
    if not any(_may_change(known.text) for known in (module, *(b.module for b in others))):
        return frozenset()
    main = text.find("__main__")
    found = set(_changed(text[main:])) if main >= 0 else set()
    followed = set(with_those_named(module, nodes, owner, bases))
    inherited = (functions_of(base.module, base.node) for base in others)
    for function in chain(_functions(module), *inherited):
        if function not in followed:
            inside = body_text(function)
            changed = _changed(text if inside is None else inside)
            found |= changed
            if changed and inside and not changed.isdisjoint(_LOOPED.findall(inside)):
                found |= mentions(function.body)  # for module in (self.network, ...)
            if owner is not None and inside and "getattr(self" in inside and _CHANGE.search(inside):
                found |= mentions(owner.body)  # getattr(self, name).eval()
    return frozenset(found)


def _may_change(text: str) -> bool:
    return ".eval(" in text or ".train(" in text


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
    yield from functions_of(module, None)
    for statement in statements(module.tree.body):
        if isinstance(statement, cst.ClassDef):
            yield from functions_of(module, statement)


def functions_of(module: SourceModule, owner: cst.ClassDef | None) -> Iterator[cst.FunctionDef]:
    """Yield the methods of a class, or the functions of a file."""
    found = statements(module.tree.body) if owner is None else classes.members(owner).values()
    yield from (one for one in found if isinstance(one, cst.FunctionDef))


def with_those_named(
    module: SourceModule,
    nodes: list[cst.FunctionDef],
    owner: cst.ClassDef | None,
    bases: Sequence[Class] = (),
) -> Iterator[cst.FunctionDef]:
    """Yield functions and those of their file, class and its bases that they name, and so on."""
    known = {function.name.value: function for function in functions_of(module, None)}
    names = {node.name.value for node in nodes}
    for base in reversed(bases):
        known |= {method.name.value: method for method in functions_of(base.module, base.node)}
    if owner is not None:
        known |= {method.name.value: method for method in functions_of(module, owner)}
        names.add("__init__")  # It makes the receiver.
    known |= {node.name.value: node for node in nodes}
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
