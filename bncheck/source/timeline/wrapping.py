"""Puts wrappers around networks, and tells a wrapper from the network in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import libcst as cst

from bncheck.events import Wrap, WrapKind
from bncheck.graph import Site
from bncheck.source.timeline import known
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Function, Models, Opaque, Value


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


def convert(
    run: Run, node: cst.BaseExpression, function: Function, arguments: Arguments
) -> Models | None:
    """Follow a conversion to SyncBatchNorm by a function of the project's own; None: it is none."""
    if not function.name.endswith(known.CONVERTERS):
        return None
    given = arguments.get(0, "module")
    if isinstance(given, Opaque) and run.looks_like_a_model(given):
        given = run.promote(given)
    if not isinstance(given, Models):
        return None
    kept = run.discarded is not node
    return wrap(run, run.site(node), given, WrapKind.SYNC_BATCH_NORM, {}, kept)


def after_method(receiver: Models, result: Value) -> Value:
    """Return what a method returns: for `to()` and the like that is what it is called on."""
    if isinstance(result, Models) and result.models == receiver.models:
        return replace(result, wrapper=receiver.wrapper)
    return result
