"""Networks with weights that a file or an object keeps, and the functions that infer with them.

`def detect(self, image): return self.network(image)` has no word that tells of inference. That it
is no part of training either is told by what else the file, or the class, names.
"""

from __future__ import annotations

import re
from functools import lru_cache

import libcst as cst

from bncheck.source.module import SourceModule
from bncheck.source.project import Project
from bncheck.source.timeline import classes
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Class, Models

_GIVEN_WEIGHTS = re.compile(r"\bself\.(\w+)(?:\.module)?\.load_state_dict\(")
_TRAINS = frozenset(
    """
    parameters named_parameters backward loss losses criterion optimizer optim train step
    requires_grad requires_grad_
    """.split()  # noqa: SIM905
)
_TRAINING = re.compile(r"\.backward\(|\boptim\b|parameters\(|\bcriterion\b|\bloss\b")


def kept_models(body: Run) -> frozenset[str]:
    """Return the names at the top of a file that stand for networks, once it ran."""
    kept = frozenset(name for name, v in body.frame.names.items() if isinstance(v, Models))
    return frozenset() if kept and _TRAINING.search(body.frame.module.text) else kept


def infers(
    project: Project,
    module: SourceModule,
    node: cst.FunctionDef,
    owner: cst.ClassDef | None,
    kept: frozenset[str],
) -> bool:
    """Tell whether a function names a network with weights that it can only infer with."""
    if owner is None:
        return bool(kept) and not kept.isdisjoint(mentions(node.body))
    if "load_state_dict" not in module.text:
        return False
    given = _given_weights(module.text)
    return (
        bool(given)
        and not mentions(node.body).isdisjoint(given)
        and _TRAINS.isdisjoint(mentions(owner))
        and classes.is_network(project, Class(owner, module)) is False
    )


_ONE = frozenset(
    {"unsqueeze", "expand_dims", "newaxis", "tensor", "FloatTensor", "reshape", "view"}
)
"""What makes a batch of a single sample, among others."""


def acts(
    project: Project, module: SourceModule, node: cst.FunctionDef, owner: cst.ClassDef | None
) -> bool:
    """Tell whether a method may give one sample to a network that its class trains.

    An agent that chooses an action does, between its training steps. Where the files call `eval()`
    on anything, it may have been called before.
    """
    if owner is None or mentions(node.body).isdisjoint(_ONE):
        return False
    return (
        {"step", "backward"} <= mentions(owner)
        and "eval" not in project.said.called_on_others
        and classes.is_network(project, Class(owner, module)) is False
    )


@lru_cache(maxsize=64)
def _given_weights(text: str) -> frozenset[str]:
    """Return the attributes of objects that load weights."""
    return frozenset(_GIVEN_WEIGHTS.findall(text))
