"""What settings name in full: `hydra.utils.instantiate(cfg.model)`, `pydoc.locate(name)`."""

from __future__ import annotations

import libcst as cst

from bncheck.source.timeline import calls, choices, options
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    Constant,
    Opaque,
    Outside,
    Partial,
    Settings,
    Value,
    truth,
)

_MAKE = frozenset(
    """
    hydra.utils.instantiate hydra.utils.call detectron2.config.instantiate
    detectron2.config.lazy.instantiate
    """.split()  # noqa: SIM905
)
"""https://hydra.cc/docs/advanced/instantiate_objects/overview/"""
_FIND = frozenset(
    """
    pydoc.locate hydra.utils.get_class hydra.utils.get_method hydra.utils.get_object
    """.split()  # noqa: SIM905
)


def call(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Value | None:
    """Return what is found or made by its name; None: another function, or an unknown name."""
    if name in _FIND:
        return _located(run, arguments.get(0, "path"))
    if name in _MAKE:
        keywords = {k: v for k, v in arguments.keywords.items() if k != "config"}
        given = Arguments(arguments.positional[1:], keywords, arguments.complete)
        return _made(run, node, arguments.get(0, "config"), given)
    return None


def _made(run: Run, node: cst.Call, config: Value | None, given: Arguments) -> Value | None:
    """Make what a configuration says under `_target_`, of its other entries and what is given."""
    told = options.entries(run, config) or {}
    target = _located(run, told.get("_target_"))
    if target is None:
        return None
    keywords = {
        name: (_made(run, node, value, Arguments()) if isinstance(value, Settings) else None)
        or value
        for name, value in told.items()
        if not name.startswith("_") and name not in given.keywords
    }
    keywords |= given.keywords
    partial = told.get("_partial_")
    if partial is not None and truth(partial) is True:
        return Partial(target, tuple(given.positional), keywords)
    arguments = Arguments(given.positional, keywords, given.complete)
    return calls.call_value(run, node, target, arguments)


def _located(run: Run, name: Value | None) -> Value | None:
    """Return what stands under a full name, or under one of those that settings files give."""
    match name:
        case Constant(value=str(text)):
            return _named(run, text)
        case Opaque(texts=(_, *_) as texts):
            found = [value for text in texts if (value := _named(run, text)) is not None]
            return choices.pick(run, found)
    return None


def _named(run: Run, text: str) -> Value | None:
    path, _, last = text.rpartition(".")
    module = run.project.find(path, run.frame.module) if path else None
    if module is not None:
        return run.member(module, last)
    if run.project.defining(last):
        found = choices.of_any_package(run, last)
        return None if isinstance(found, Opaque) else found
    return Outside(text) if path else None
