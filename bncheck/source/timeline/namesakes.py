"""Networks and functions that an import names in a place where the project does not have them.

A script that was written for another folder imports `model.Net` where the network now lies in
`models/net.py`. One that was written beside the project's folder imports `Project.models.net.Net`,
which nothing finds where that folder is called otherwise.
"""

from __future__ import annotations

import re

import libcst as cst

from bncheck.source.timeline import classes
from bncheck.source.timeline.model_libraries import ZOO_ROOTS
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Class, Function

_OWN = re.compile(
    r"(?:src|source|lib|libs|core|code|common|project|utils?|helpers?|my_?\w+|modules?|"
    r"(?:\w+_)?(?:models?|model(?:l)?ing|net(?:work)?s?|arch(?:itecture)?s?|backbones?|nn))$"
)
"""Packages that projects have, and that no library is called."""


_LIBRARIES = ZOO_ROOTS | {"torch", "transformers", "detectron2", "mmcv", "mmdet", "mmseg", "mmpose"}
"""Libraries that projects are laid out like."""


def own(run: Run, name: str) -> Class | Function | None:
    """Return the one network class or function that has the name which an import misses.

    Below a package that has a name of its own it has to lie where the rest of the import says.
    """
    root, _, rest = name.partition(".")
    last = name.rpartition(".")[2]
    if not rest or root in _LIBRARIES:
        return None
    where = "" if _OWN.match(root) else f"/{rest.rpartition('.')[0].replace('.', '/')}.py"
    if where == "/.py":
        return None
    found = [
        (node, module)
        for module in run.project.defining(last)
        if f"/{module.path}".endswith(where)
        for node in module.bindings.get(last, ())
    ]
    match found:
        case [(cst.ClassDef() as node, module)]:
            cls = Class(node, module)
            return cls if classes.is_network(run.project, cls) is True else None
        case [(cst.FunctionDef() as node, module)]:
            return Function(node, module, last)
    return None
