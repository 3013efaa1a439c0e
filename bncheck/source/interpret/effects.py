"""What statements of a project do to a module's value after the assignment that made it.

A registry is filled by decorators, calls and item assignments, a configuration by assignments to
its attributes, below it or in the files that import it. They run when the name is first looked up,
and only those that change it directly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bncheck.source.interpret.values import Dictionary, Instance
from bncheck.source.literals import literal
from bncheck.source.module import SourceModule, dotted, statements
from bncheck.source.outline import body_text
from bncheck.source.project import Defined, Project

_MOST_FILES = 40
"""A name that more files speak of at the beginning of a line is followed into none of them."""
_USED = re.compile(rb"\s*[.\[(\n]")
"""What follows on a name where something is done to what it stands for."""


def may_be_registry(value: object) -> bool:
    """Tell whether later statements may fill a value: an object or a dictionary, no network."""
    return isinstance(value, Dictionary) or (isinstance(value, Instance) and not value.is_module)


def is_filled_elsewhere(value: object) -> bool:
    """Tell whether other files may fill a value: it begins empty, or is an object."""
    return not value.state if isinstance(value, Dictionary) else may_be_registry(value)


def effects(module: SourceModule, name: str, fillers: frozenset[str]) -> Iterator[cst.CSTNode]:
    """Yield the module's statements that change what `name` is bound to, in order.

    A function or class that a decorator registers, or a decorator that is one of the `fillers`, is
    yielded itself.
    """
    if module.text.count(name) < 2 and not fillers:
        return
    for statement in statements(module.tree.body):
        match statement:
            case cst.Expr(value=cst.Call(func=cst.Attribute() as function)):
                if _root(function) == name:
                    yield statement
            case (
                cst.Assign(targets=[cst.AssignTarget(target=cst.Subscript(value=owner))])
                | cst.Assign(targets=[cst.AssignTarget(target=cst.Attribute(value=owner))])
            ):
                if _root(owner) == name:
                    yield statement
            case cst.FunctionDef() | cst.ClassDef():
                roots = {_root(decorator_of(d)) for d in statement.decorators}
                if name in roots or not roots.isdisjoint(fillers):
                    yield statement


def is_registered_as(node: cst.FunctionDef | cst.ClassDef, name: str, key: str) -> bool:
    """Tell whether a decorator, a method of `name`, registers a definition under a key."""
    for decorator in node.decorators:
        if _root(decorator_of(decorator)) == name:
            call = decorator.decorator
            given = call.args if isinstance(call, cst.Call) else ()
            texts = [literal(a.value) for a in given if isinstance(a.value, cst.SimpleString)]
            return key in texts if texts else node.name.value == key
    return False


def fillers_of(module: SourceModule, name: str) -> frozenset[str]:
    """Return the functions of a module that put something into its dictionary of that name."""
    # Letters first: they are searched for much faster than what may stand before them.
    stores = re.compile(rf"{name}\[(?<!\w{name}\[)[^\]\n]*\]\s*=[^=]")
    if not stores.search(module.text):
        return frozenset()
    return frozenset(
        node.name.value
        for bindings in module.bindings.values()
        for node in bindings
        if isinstance(node, cst.FunctionDef) and stores.search(body_text(node) or "")
    )


def filling(
    project: Project, module: SourceModule, name: str, fillers: frozenset[str], key: str = ""
) -> Iterator[SourceModule]:
    """Yield the other modules of a run whose statements may fill what `name` is bound to.

    With a key, only those that speak of it.
    """
    names = {name, *fillers}
    wanted = key.encode()
    encoded = [one.encode() for one in names]
    found: list[str] = []
    for file, text in project.texts.items():
        content = text.encode() if isinstance(text, str) else text
        if wanted in content and any(_begins_line(one, content) for one in encoded):
            found.append(str(file))
            if len(found) > _MOST_FILES:
                return
    for path in sorted(found):
        other = project.module_at(path)
        if other is not None and other is not module and _imports(project, other, module, names):
            yield other


def _begins_line(name: bytes, content: bytes) -> bool:
    """Tell whether a statement or decorator at the top of a file begins with a name."""
    place = content.find(name)
    while place >= 0:
        start = place - (content[place - 1 : place] == b"@")
        at_top = start == 0 or content[start - 1 : start] == b"\n"
        if at_top and _USED.match(content, place + len(name)):
            return True
        place = content.find(name, place + 1)
    return False


def _imports(project: Project, other: SourceModule, module: SourceModule, names: set[str]) -> bool:
    """Tell whether one of the names means the same in another module."""
    return any(
        isinstance(meaning, Defined) and meaning.module is module
        for name in names & other.bindings.keys()
        for meaning in project.resolve(name, other)
    )


def decorator_of(node: cst.Decorator) -> cst.BaseExpression:
    """Return what a decorator applies, without the arguments it is given."""
    expression = node.decorator
    return expression.func if isinstance(expression, cst.Call) else expression


def _root(expression: cst.BaseExpression) -> str:
    return (dotted(expression) or "").partition(".")[0]
