"""Networks that freeze a part while they are made, until the first `train()` undoes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bncheck.graph import Site
from bncheck.source.module import SourceModule, dotted
from bncheck.source.project import Project
from bncheck.source.timeline import classes, named_parts, parts, stops
from bncheck.source.timeline.syntax import identifiers, mentions
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds
from bncheck.timeline import LostFreeze

_JUDGES = re.compile(r"loss|lpips|perceptual|fid|metric|score|critic|teacher", re.IGNORECASE)
"""Names of networks that judge others, and are not trained themselves."""
_FOLLOWS = re.compile(r"momentum|target|ema|key|_k\b|shadow", re.IGNORECASE)


def lost_freezes(module: SourceModule, project: Project) -> Iterator[LostFreeze]:
    """Yield each part that a constructor puts in eval mode and stops the gradients of.

    A class that has a `train` method, or calls `eval()` later too, keeps its freeze or may do so.
    """
    if "requires_grad" not in module.text or ".eval(" not in module.text:
        return
    for bindings in module.bindings.values():
        for binding in bindings:
            if isinstance(binding, cst.ClassDef) and {"eval", "__init__"} <= mentions(binding):
                yield from _of_class(module, project, binding)


def _of_class(module: SourceModule, project: Project, node: cst.ClassDef) -> Iterator[LostFreeze]:
    own = classes.members(node)
    init = own.get("__init__")
    if not isinstance(init, cst.FunctionDef) or _JUDGES.search(node.name.value):
        return
    while_made = [init, *stops.called_on_itself(node, init)]
    later = [code for code in own.values() if code not in while_made]
    if any("eval" in mentions(code) for code in later) or "deepcopy" in mentions(node):
        return
    frozen = dict(part for code in while_made for part in _frozen(code))
    if not frozen or not (
        _parts_besides(node, frozen) or _waits_for_a_switch(project, init, frozen)
    ):
        return
    cls = Class(node, module)
    if not stops.is_plain_network(project, cls):
        return
    for part, call in frozen.items():
        if named_parts.may_hold_norms(project, cls, part):
            yield LostFreeze(Site(module.path, call), node.name.value, project.said.train_networks)


def _frozen(code: cst.FunctionDef) -> Iterator[tuple[str, cst.CSTNode]]:
    """Yield the parts that code which sets `requires_grad` puts in eval mode."""
    if not mentions(code) & {"requires_grad", "requires_grad_"}:
        return
    for call in walk_kinds(code.body, (cst.Call,)):
        owner, _, rest = (dotted(call.func) or "").partition(".")
        part, _, method = rest.partition(".")
        if owner == "self" and method == "eval" and not _FOLLOWS.search(part):
            yield part, call


_SWITCH = re.compile(r"freez|frozen", re.IGNORECASE)


def _waits_for_a_switch(
    project: Project, init: cst.FunctionDef, frozen: dict[str, cst.CSTNode]
) -> bool:
    """Tell whether a parameter such as `frozen`, which the project sets, freezes all there is."""
    named = {
        parameter.name.value for parameter in (*init.params.params, *init.params.kwonly_params)
    }
    return any(
        any(_SWITCH.search(name) and project.said.turn_on(name) for name in asked & named)
        and any(part in walk_kinds(test.body, (cst.Call,)) for part in frozen.values())
        for test in walk_kinds(init.body, (cst.If,))
        for asked in (identifiers(test.test),)
    )


def _parts_besides(node: cst.ClassDef, frozen: dict[str, cst.CSTNode]) -> bool:
    return any(not _JUDGES.search(part) for part in parts.parts(node) - frozen.keys())
