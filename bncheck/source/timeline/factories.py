"""Functions that only hand on: of many that call the same others, a few are followed."""

from __future__ import annotations

import libcst as cst

from bncheck.source.entrances import returned_call
from bncheck.source.module import SourceModule, dotted
from bncheck.source.project import Defined, Project
from bncheck.source.timeline.relevance import WORDS, relevant
from bncheck.source.timeline.syntax import assigned, mentions
from bncheck.source.walk import walk_kinds

_MOST_VARIANTS = 4
_MOST_FACTORIES = 2
"""A library of networks has a hundred factories that return what one builder makes."""

_OF_CONTAINERS = frozenset(
    """
    append extend items keys values get pop update setdefault split join format replace startswith
    endswith lower upper strip copy
    """.split()  # noqa: SIM905
)


def is_one_of_many(project: Project, module: SourceModule, node: cst.FunctionDef) -> bool:
    """Tell whether enough functions that hand on to the same others were followed before it.

    What happens there stands in those others, at the same sites. Files that name BatchNorm are
    counted apart. A function that calls what it was given or has made is no such function.
    """
    if mentions(node) & WORDS or not _only_hands_on(module, node):
        return False
    others = {
        id(meaning.binding)
        for name in _called(node)
        if name in module.bindings
        for meaning in project.resolve(name, module)
        if isinstance(meaning, Defined)
        and isinstance(meaning.binding, cst.FunctionDef)
        and meaning.binding is not node
        and relevant(project, meaning.module, meaning.binding)
    }
    if not others:
        return False
    kind = (frozenset(others), "BatchNorm" in module.text)
    project.variants[kind] = project.variants.get(kind, 0) + 1
    most = _MOST_VARIANTS if returned_call(node) is None else _MOST_FACTORIES
    return project.variants[kind] > most


def _called(node: cst.FunctionDef) -> set[str]:
    """Return the plain names that a function calls; what it passes on is followed by itself."""
    calls = walk_kinds(node, (cst.Call,))
    return {call.func.value for call in calls if isinstance(call.func, cst.Name)}


def _only_hands_on(module: SourceModule, node: cst.FunctionDef) -> bool:
    own = assigned(node) | {part.name.value for part in walk_kinds(node, (cst.Param,))}
    for call in walk_kinds(node, (cst.Call,)):
        match call.func:
            case cst.Name(value=name):
                if name in own:
                    return False
            case cst.Attribute(value=owner, attr=cst.Name(value=name)):
                root = (dotted(owner) or "").partition(".")[0]
                if name not in _OF_CONTAINERS and (root in own or root not in module.bindings):
                    return False
            case _:
                return False
    return True
