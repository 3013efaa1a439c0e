"""Functions of a project that put norms of constant statistics in the place of BatchNorm."""

from __future__ import annotations

import re
from collections.abc import Sequence

import libcst as cst

from bncheck.source.timeline import known
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Models, Value

_CONSTANT = re.compile(r"frozen|fixed", re.IGNORECASE)


def freezes_for_good(code: cst.FunctionDef) -> bool:
    """Tell whether a function makes a frozen norm of each BatchNorm in what it is given.

    `module = FrozenBatchNorm2d(old.num_features)`
    """
    names = mentions(code)
    return (
        "num_features" in names
        and not known.BATCH_NORMS.isdisjoint(names)
        and any(map(_CONSTANT.search, (*names, code.name.value)))
    )


def without_norms(run: Run, given: Sequence[Value]) -> Value | None:
    """Note that the networks given hold no BatchNorm any more, and return the first."""
    networks = [value for value in given if isinstance(value, Models)]
    converted = {model for value in networks for model in value.models}
    for model in [*converted, *(p for p in run.models if any(p.within(m) for m in converted))]:
        model.holds_batch_norm = False
    return networks[0] if networks else None
