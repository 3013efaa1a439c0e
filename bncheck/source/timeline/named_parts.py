"""Whether parts of a network hold BatchNorm, asked by their names: what a freeze lets through."""

from __future__ import annotations

from collections.abc import Collection

from bncheck.source.project import Defined, Project
from bncheck.source.timeline import classes, ingredients, parts
from bncheck.source.timeline.closer import CloserLook
from bncheck.source.timeline.constructors import assigned_in_init
from bncheck.source.timeline.values import Class


def hold_norms(project: Project, cls: Class, part: str) -> bool:
    """Tell whether a part of a network holds BatchNorm, by its words or as it is constructed."""
    return (
        parts.part_holds(project, cls, part) is True
        or CloserLook(
            Defined(cls.module, cls.node.name.value, cls.node), project, frozenset(), part
        )()
        is True
    )


def may_hold_norms(project: Project, cls: Class, part: str) -> bool:
    """Tell the same of a part that a setting may choose of a library's networks as well."""
    value = assigned_in_init(cls.node).get(part)
    return hold_norms(project, cls, part) or (
        value is not None and ingredients.is_chosen(project, value, cls.module)
    )


def hold_none(project: Project, cls: Class, names: Collection[str]) -> bool:
    """Tell whether a network has parts of all these names, none of which may hold BatchNorm."""
    family = classes.ancestry(project, cls).project
    return bool(names) and all(
        any(name in assigned_in_init(one.node) for one in family)
        and not any(
            may_hold_norms(project, one, name)
            for one in family
            if name in assigned_in_init(one.node)
        )
        for name in names
    )
