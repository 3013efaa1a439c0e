"""Runs the bodies of other modules: `from settings import net`, `from options import args`.

What such a body does comes before all else, wherever one of its names is first asked for.
"""

from __future__ import annotations

import re
from functools import lru_cache

import libcst as cst

from bncheck.source.module import SourceModule, dotted, statements
from bncheck.source.project import Defined, External, Project
from bncheck.source.timeline import classes, known, model_libraries
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds

_CALLS = re.compile(r"^[A-Za-z_][\w.\[\]'\"]*[ \t]*=[ \t]*[\w.]+\(", re.MULTILINE)
"""A statement at the top of a file that keeps what a call returns."""


@lru_cache(maxsize=1024)
def keeps(project: Project, module: SourceModule) -> bool:
    """Tell whether the top of a module keeps a network, a loader, settings or parsed arguments."""
    if not _CALLS.search(module.text):
        return False
    return any(
        _matters(project, module, call)
        for statement in statements(module.tree.body)
        if isinstance(statement, cst.Assign)
        for call in walk_kinds(statement.value, (cst.Call,))
    )


_SETTINGS = re.compile(
    r"^(?:\w*[a-z0-9])?(?:Config(?:uration)?|Cfg|Conf|Opt(?:ion)?s?|Settings?|Arg(?:ument)?s|"
    r"Param(?:eter)?s)$"
    r"|^(?:H[Pp]aram(?:eter)?s|[Hh]yper_?[Pp]aram(?:eter)?s|cfg|config|params|hparams)$"
)
"""Classes whose objects keep settings."""
_PARSES = frozenset({"parse_args", "parse_known_args"})


def _matters(project: Project, module: SourceModule, call: cst.Call) -> bool:
    if isinstance(call.func, cst.Attribute) and call.func.attr.value in _PARSES:
        return True
    for meaning in project.resolve(dotted(call.func) or "", module):
        match meaning:
            case Defined(module=origin, binding=cst.ClassDef() as node):
                if _SETTINGS.search(node.name.value):
                    return True
                if classes.is_network(project, Class(node, origin)) is True:
                    return True
            case Defined(binding=cst.FunctionDef() as node):
                if mentions(node) & _PARSES:
                    return True
            case External(name=name):
                if model_libraries.zoo_model(name, None) is not None or name in known.LOADERS:
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
