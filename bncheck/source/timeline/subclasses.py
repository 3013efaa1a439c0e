"""What stands for an abstract class where nothing in its file makes an object of another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import libcst as cst

from bncheck.source.module import SourceModule, statements
from bncheck.source.project import Project
from bncheck.source.timeline.classes import ancestry, decorators, members
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Class

_MOST = 4


def concrete(
    project: Project, module: SourceModule, owner: cst.ClassDef, node: cst.FunctionDef
) -> tuple[Class, ...]:
    """Return some of the classes of a project that define what an abstract one leaves to them.

    There are none where its method does not train, or does without what is left to them.
    """
    if "backward" not in mentions(owner):
        return ()
    left_open = {name for name, member in members(owner).items() if _is_abstract(member)}
    if left_open.isdisjoint(mentions(owner.body)) or node.name.value in left_open:
        return ()
    return tuple(islice(_deriving(project, Class(owner, module), left_open), _MOST))


def _is_abstract(member: cst.CSTNode) -> bool:
    if not isinstance(member, cst.FunctionDef):
        return False
    return "abstractmethod" in decorators(member) or "NotImplementedError" in mentions(member.body)


def _deriving(project: Project, base: Class, left_open: set[str]) -> Iterator[Class]:
    for module in project.deriving(base.node.name.value):
        for statement in statements(module.tree.body):
            if not isinstance(statement, cst.ClassDef):
                continue
            found = Class(statement, module)
            family = ancestry(project, found).project
            if found != base and base in family and left_open <= _defined(family):
                yield found


def _defined(family: tuple[Class, ...]) -> set[str]:
    return {
        name
        for cls in family
        for name, member in members(cls.node).items()
        if not _is_abstract(member)
    }
