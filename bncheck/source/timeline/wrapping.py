"""Puts wrappers around networks, and tells a wrapper from the network in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bncheck.events import Wrap, WrapKind
from bncheck.graph import Site
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Models, Value


def wrap(
    run: Run,
    site: Site,
    given: Models,
    kind: WrapKind,
    keywords: Mapping[str, object],
    kept: bool = True,
) -> Models:
    """Follow a call that wraps or converts networks; return what it returns."""
    for model in given.models:
        run.emit(Wrap(site, model, kind, keywords, kept, of_wrapper=given.wrapper))
    return replace(given, wrapper=True) if kind is WrapKind.DISTRIBUTED else given


def after_method(receiver: Models, result: Value) -> Value:
    """Return what a method returns: for `to()` and the like that is what it is called on."""
    if isinstance(result, Models) and result.models == receiver.models:
        return replace(result, wrapper=receiver.wrapper)
    return result
