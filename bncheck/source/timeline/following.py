"""Which functions of the project are followed where they are called, or change nothing later."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import libcst as cst

from bncheck.source.timeline import classes, known
from bncheck.source.timeline.configurations import CLASSES
from bncheck.source.timeline.model_libraries import ZOOS
from bncheck.source.timeline.relevance import makes_models, may_switch, relevant
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import (
    Class,
    Container,
    Data,
    Function,
    Instance,
    Members,
    Models,
    Opaque,
    Optimizer,
    Outside,
    Package,
    Parser,
    Partial,
    Settings,
    Value,
)

_SETTINGS = CLASSES | {"json", "yaml", "OmegaConf", "merge_from_file", "setattr"}
"""What a function that reads settings, makes them or changes them names."""


def worth_following(run: Run, function: Function, given: Sequence[Value]) -> bool:
    """Tell whether a function may do or return something that matters."""
    if any(
        isinstance(v, Data | Members | Optimizer | Package | Parser) or run.reachable(v)
        for v in given
    ):
        return True
    if any(isinstance(v, Opaque) and v.type_name in known.TORCH_BATCH_NORMS for v in given):
        return True
    if isinstance(function.receiver, Instance):
        kept = run.heap.of(function.receiver).values()
        if any(isinstance(value, Data) for value in kept):
            return True  # It may hand on the batches one by one.
    listed = (e for v in given for e in (v.elements if isinstance(v, Container) else (v,)))
    if any(isinstance(v, Class) and classes.is_network(run.project, v) is True for v in listed):
        return True
    if any(isinstance(value, Outside) and value.name.startswith(ZOOS) for value in given):
        return True  # It is told which network of a library's to make.
    project, module, code = run.project, function.module, function.node
    if isinstance(function.receiver, Instance):
        # What it does may stand in the methods that it calls on itself.
        family = classes.ancestry(project, function.receiver.cls).project
        if any(relevant(project, c.module, c.node) for c in family):
            return True
    if _speaks_of_batches(code) and any(isinstance(v, Instance | Settings) for v in given):
        return True
    return (
        relevant(project, module, code)
        or makes_models(project, module, code)
        or bool(mentions(code) & _SETTINGS)
        or ("clone" in mentions(code) and "CfgNode" in module.text)
        or _uses_kept_models(run, function)
    )


@lru_cache(maxsize=8192)
def _speaks_of_batches(code: cst.FunctionDef | cst.Lambda) -> bool:
    """Tell whether a function may set, or return, the size of a batch that settings give."""
    return any("batch" in name.lower() for name in mentions(code))


def _uses_kept_models(run: Run, function: Function) -> bool:
    """Tell whether a function, or one that it names, names a model that its file keeps."""
    kept = run.globals.get(function.module)
    if kept is None:
        return False
    models = {name for name, value in kept.names.items() if isinstance(value, Models)}
    names = mentions(function.node) if models else frozenset()
    return not models.isdisjoint(names) or any(
        isinstance(binding, cst.FunctionDef) and not models.isdisjoint(mentions(binding))
        for name in names & function.module.bindings.keys()
        for binding in function.module.bindings[name]
    )


def is_harmless_callback(run: Run, value: Value) -> bool:
    """Tell whether a value is a function of the project that switches no model's mode."""
    if isinstance(value, Partial):
        return not run.reachable(value) and is_harmless_callback(run, value.value)
    if not isinstance(value, Function):
        return False
    owner = value.owner
    if owner is None:
        return not may_switch(run.project, value.module, value.node)
    return not any(
        may_switch(run.project, cls.module, cls.node)
        for cls in classes.ancestry(run.project, owner).project
    )


def is_managed(run: Run, function: Function) -> bool:
    """Tell whether the settings say that a function, or its class, manages modes itself."""
    managed = run.settings.mode_managed_by
    if not managed:
        return False
    owner = function.owner
    names = {function.name, f"{function.module.name}.{function.name}"}
    if owner is not None:
        names |= {owner.node.name.value, f"{owner.module.name}.{owner.node.name.value}"}
    return bool(names & set(managed))
