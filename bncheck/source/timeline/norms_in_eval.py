"""Networks whose `train` method keeps BatchNorm in eval mode, as they are made by default."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bncheck.source.module import SourceModule
from bncheck.source.project import Project
from bncheck.source.timeline import classes, known
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds


@lru_cache(maxsize=256)
def may_hold_still(project: Project, module: SourceModule) -> bool:
    """Tell whether a network class of a file puts its BatchNorm in eval mode by default.

    `if mode and self.norm_eval:` does in a `train` method, where the constructor's `norm_eval` is
    True by default. The file's blocks are parts of such a network.
    """
    own = (binding for bindings in module.bindings.values() for binding in bindings)
    return any(
        isinstance(binding, cst.ClassDef) and _keeps_norms_in_eval(project, Class(binding, module))
        for binding in own
    )


def _keeps_norms_in_eval(project: Project, cls: Class) -> bool:
    family = classes.ancestry(project, cls).project
    methods = (classes.members(ancestor.node).get("train") for ancestor in family)
    method = next((code for code in methods if isinstance(code, cst.FunctionDef)), None)
    if method is None or not _puts_norms_in_eval(method):
        return False
    switches = set(_switches(method))
    return bool(switches) and all(_is_on(family, switch) for switch in switches)


def _puts_norms_in_eval(code: cst.CSTNode) -> bool:
    names = mentions(code)
    return "eval" in names and not known.BATCH_NORMS.isdisjoint(names)


def _switches(method: cst.FunctionDef) -> Iterator[str]:
    """Yield the attributes that it depends on whether every BatchNorm is put in eval mode."""
    for branch in walk_kinds(method, (cst.If,)):
        if isinstance(branch, cst.If) and _puts_norms_in_eval(branch.body):
            for part in walk_kinds(branch.test, (cst.Attribute,)):
                match part:
                    case cst.Attribute(value=cst.Name(value="self"), attr=cst.Name(value=name)):
                        yield name


def _is_on(family: tuple[Class, ...], switch: str) -> bool:
    """Tell whether the first constructor with a parameter of that name has True as its default."""
    for ancestor in family:
        match classes.members(ancestor.node).get("__init__"):
            case cst.FunctionDef(params=cst.Parameters(params=params, kwonly_params=more)):
                for parameter in (*params, *more):
                    if parameter.name.value == switch:
                        default = parameter.default
                        return isinstance(default, cst.Name) and default.value == "True"
    return False
