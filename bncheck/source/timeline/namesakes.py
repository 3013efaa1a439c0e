"""Networks that an import names in a place where the project does not have them.

A script that was written for another folder imports `model.Net` where the network now lies in
`models/net.py`.
"""

from __future__ import annotations

import re

import libcst as cst

from bncheck.source.timeline import classes
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Class

_OWN = re.compile(
    r"(?:src|source|lib|libs|core|code|common|project|utils?|helpers?|my_?\w+|modules?|"
    r"(?:\w+_)?(?:models?|model(?:l)?ing|net(?:work)?s?|arch(?:itecture)?s?|backbones?|nn))$"
)
"""Packages that projects have, and that no library is called."""


def own_class(run: Run, name: str) -> Class | None:
    """Return the one network class of the project that has the name which an import misses."""
    root, _, rest = name.partition(".")
    last = name.rpartition(".")[2]
    if not rest or not last[:1].isupper() or not _OWN.match(root):
        return None
    found = [
        Class(node, module)
        for module in run.project.defining(last)
        for node in module.bindings.get(last, ())
        if isinstance(node, cst.ClassDef)
    ]
    match found:
        case [only] if classes.is_network(run.project, only) is True:
            return only
    return None
