"""Follows `REGISTRY.build(cfg)` of a registry that a project writes itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bncheck.source.timeline import choices, options
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Class, Constant, Container, Function, Opaque, Value

_BUILDS = re.compile(r"build|create|make|instantiate|construct", re.IGNORECASE)
_CHOOSES = ("type", "name", "NAME", "TYPE", "_target_")
"""The entries of a configuration that say what to make, by the customs of OpenMMLab and fvcore."""


@dataclass(frozen=True)
class Chosen:
    """What a registry makes, and what it is given."""

    value: Value
    arguments: Arguments


def chosen(run: Run, table: Container, name: str, arguments: Arguments) -> Chosen | None:
    """Return what `table.build(cfg)` makes; None: that is no call of a registry's `build`.

    The rest of what a configuration says is not known to be all that the class is given.
    """
    if not _BUILDS.search(name) or not _keeps_classes(table):
        return None
    first = arguments.get(0, "cfg")
    told = options.entries(run, first)
    if told is not None:
        key = next((told[entry] for entry in _CHOOSES if entry in told), Opaque())
        given = {entry: value for entry, value in told.items() if entry not in _CHOOSES}
    else:
        key = first if isinstance(first, Constant) else Opaque()
        given = {}
    keywords = {k: v for k, v in arguments.keywords.items() if k != "cfg"}
    return Chosen(
        choices.of_container(run, table, key),
        Arguments(keywords={**given, **keywords}, complete=False),
    )


def _keeps_classes(table: Container) -> bool:
    return bool(table.elements) and all(isinstance(e, Class | Function) for e in table.elements)
