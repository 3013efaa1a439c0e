"""What an entry point leaves to others to make: `init()` with its globals, `setup(self)`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import libcst as cst

from bncheck.source.module import SourceModule
from bncheck.source.outline import body_text
from bncheck.source.project import Project
from bncheck.source.timeline import classes
from bncheck.source.timeline.distrust import functions_of, with_those_named
from bncheck.source.timeline.relevance import makes_models
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Class

_GLOBALS = re.compile(r"^[ \t]*global[ \t]+([\w, \t]+)", re.MULTILINE)
_SET = re.compile(r"^[ \t]*(\w+)[ \t]*=[ \t]*(?!=|None\b)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"\bself\.(\w+)")
_LOADED = re.compile(r"\bself\.(\w+)(?:\.module)?\.load_state_dict\(")
_ASSIGNED = re.compile(r"\bself\.(\w+)[ \t]*=[ \t]*(?!=|None\b)")


def set_up_by(
    project: Project, module: SourceModule, node: cst.FunctionDef, owner: cst.ClassDef | None
) -> list[cst.FunctionDef]:
    """Return the functions that alone set what an entry point uses, and that may make a model.

    They are none that it calls, nor the constructor: a framework or a caller elsewhere calls them
    before.
    """
    if owner is None:
        may_be_set = "global " in module.text and bool(_GLOBALS.search(module.text))
    else:
        may_be_set = classes.is_network(project, Class(owner, module)) is not True
    if not may_be_set:
        return []
    others = [
        function
        for function in functions_of(module, owner)
        if function is not node
        and function.name.value != "__init__"
        and makes_models(project, module, function)
    ]
    loading = [] if owner is None else list(_loading(module, owner))
    if not others and not loading:
        return []
    followed = list(with_those_named(module, [node], owner))
    if owner is None:
        used = set[str]().union(*(mentions(function.body) for function in followed))
        assigned = _globals
    else:
        used = _found(_ATTRIBUTE, followed)
        assigned = _attributes
    missing = used - assigned(followed)
    makers: dict[str, list[cst.FunctionDef]] = {}
    for function in functions_of(module, owner):
        if function not in followed:
            for name in assigned([function]) & missing:
                makers.setdefault(name, []).append(function)
    alone = dict.fromkeys(found[0] for found in makers.values() if len(found) == 1)
    set_up = [function for function in alone if function in others]
    apart = [f for f in loading if f not in followed and f not in set_up]
    if len(apart) == 1 and not used.isdisjoint(_found(_LOADED, apart)):
        set_up += apart
    return set_up


def _loading(module: SourceModule, owner: cst.ClassDef) -> Iterator[cst.FunctionDef]:
    """Yield the methods that load weights into what a class that does not train keeps.

    The constructor calls none of them.
    """
    if "load_state_dict" not in mentions(owner) or "backward" in mentions(owner):
        return
    init = classes.members(owner).get("__init__")
    called = mentions(init) if isinstance(init, cst.FunctionDef) else frozenset()
    for function in functions_of(module, owner):
        if "load_state_dict" in mentions(function) and function.name.value not in called:
            yield function


def _globals(functions: Iterable[cst.FunctionDef]) -> set[str]:
    declared = {n.strip() for names in _found(_GLOBALS, functions) for n in names.split(",")}
    return declared & _found(_SET, functions)


def _attributes(functions: Iterable[cst.FunctionDef]) -> set[str]:
    return _found(_ASSIGNED, functions)


def _found(pattern: re.Pattern[str], functions: Iterable[cst.FunctionDef]) -> set[str]:
    texts = (body_text(function) for function in functions)
    return {found for text in texts if text is not None for found in pattern.findall(text)}
