"""Which functions can do anything to a model: the others need not be followed."""

from __future__ import annotations

from functools import lru_cache

import libcst as cst

from bncheck.source.module import SourceModule
from bncheck.source.project import Defined, Project
from bncheck.source.timeline.syntax import identifiers

WORDS = frozenset(
    """
    eval train no_grad inference_mode set_grad_enabled DataLoader load_state_dict backward
    requires_grad_ requires_grad DataParallel DistributedDataParallel convert_sync_batchnorm
    update_bn trace script export checkpoint AveragedModel parse_args momentum
    """.split()  # noqa: SIM905
)
"""What a function that matters names, or what it calls names."""

_MAX_HOPS = 5


def relevant(
    project: Project, module: SourceModule, node: cst.CSTNode, hops: int = _MAX_HOPS
) -> bool:
    """Tell whether a function or class, or what it uses of the project, names what matters."""
    return _relevant(project, module, node, hops)


@lru_cache(maxsize=16384)
def _relevant(project: Project, module: SourceModule, node: cst.CSTNode, hops: int) -> bool:
    names = identifiers(node)
    if names & WORDS or {"zip", "parameters"} <= names:
        return True
    if not hops:
        return False
    for name in names:
        if name not in module.bindings:
            continue
        for meaning in project.resolve(name, module):
            match meaning:
                case Defined(module=origin, binding=(cst.FunctionDef() | cst.ClassDef()) as found):
                    if found is not node and _relevant(project, origin, found, hops - 1):
                        return True
    return False
