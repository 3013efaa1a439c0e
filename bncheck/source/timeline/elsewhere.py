"""Runs the bodies of other modules that keep networks: `from settings import net`, `args["model"]`.

What such a body does comes before all else, wherever one of its names is first asked for.
"""

from __future__ import annotations

import re
from functools import lru_cache

import libcst as cst

from bncheck.source.module import SourceModule, dotted, statements
from bncheck.source.project import Defined, External, Project
from bncheck.source.timeline import classes, known
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds

_CALLS = re.compile(r"^[A-Za-z_][\w.\[\]'\"]*[ \t]*=[ \t]*[\w.]+\(", re.MULTILINE)
"""A statement at the top of a file that keeps what a call returns."""


@lru_cache(maxsize=1024)
def keeps_networks(project: Project, module: SourceModule) -> bool:
    """Tell whether the top of a module makes a network and keeps it, under a name or a key."""
    if not _CALLS.search(module.text):
        return False
    return any(
        _makes_a_network(project, module, call)
        for statement in statements(module.tree.body)
        if isinstance(statement, cst.Assign)
        for call in walk_kinds(statement.value, (cst.Call,))
    )


def _makes_a_network(project: Project, module: SourceModule, call: cst.Call) -> bool:
    for meaning in project.resolve(dotted(call.func) or "", module):
        match meaning:
            case Defined(module=origin, binding=cst.ClassDef() as node):
                if classes.is_network(project, Class(node, origin)) is True:
                    return True
            case External(name=name):
                if known.zoo_model(name, None) is not None:
                    return True
    return False


def run_body_of(run: Run, module: SourceModule) -> None:
    """Run another module's body once, as its import does, before everything else."""
    from bncheck.source.timeline.statements import run_body

    kept = (run.frame, run.dead, run.discarded, run.statement, run.count, run.runs_main)
    run.frame, run.dead = run.module_frame(module), False
    run.discarded, run.statement, run.count, run.runs_main = None, None, None, False
    with run.block() as steps:
        run_body(run, module.tree.body)
    run.before.extend(steps)
    run.frame, run.dead, run.discarded, run.statement, run.count, run.runs_main = kept
