"""What stands for a class where nothing in its file makes an object of it.

An abstract class leaves a part to the classes that derive from it, and another one a network: they
hand it to its constructor.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import libcst as cst

from bncheck.source.module import SourceModule, statements
from bncheck.source.project import Project
from bncheck.source.timeline.classes import ancestry, decorators, is_network, members
from bncheck.source.timeline.relevance import makes_models
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Class

_MOST = 4


def concrete(
    project: Project, module: SourceModule, owner: cst.ClassDef, node: cst.FunctionDef
) -> tuple[Class, ...]:
    """Return some of the classes of a project that define or hand over what one leaves to them.

    There are none where its method does not train, or does without what is left to them.
    """
    base = Class(owner, module)
    if "backward" in mentions(owner):
        left_open = {name for name, member in members(owner).items() if _is_abstract(member)}
        if not left_open.isdisjoint(mentions(owner.body)) and node.name.value not in left_open:
            return tuple(islice(_deriving(project, base, left_open), _MOST))
    if (
        not _RUNS_NETWORKS.isdisjoint(mentions(owner))
        and _keeps_what_it_is_given(owner)
        and is_network(project, base) is not True
    ):
        return tuple(islice(_handing_networks(project, base, node.name.value), _MOST))
    return ()


_RUNS_NETWORKS = frozenset({"backward", "train", "eval", "no_grad", "inference_mode"})
"""One of these is named by a class that trains a network or evaluates it; an optimizer has none."""


def _keeps_what_it_is_given(owner: cst.ClassDef) -> bool:
    init = members(owner).get("__init__")
    return isinstance(init, cst.FunctionDef) and len(init.params.params) > 1


def _handing_networks(project: Project, base: Class, method: str) -> Iterator[Class]:
    """Yield the classes whose constructor hands a network to the base's, and that leave a method.

    What they hand over may be the network's class, too.
    """
    for found in _deriving(project, base, set()):
        family = ancestry(project, found).project
        own = [members(cls.node) for cls in family[: family.index(base)]]
        init = own[0].get("__init__")
        if (
            isinstance(init, cst.FunctionDef)
            and "super" in mentions(init)
            and makes_models(project, found.module, init)
            and not any(method in defined for defined in own)
        ):
            yield found


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
