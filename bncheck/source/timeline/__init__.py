"""Follows the models of a script: module -> Timelines."""

from __future__ import annotations

from bncheck.config import Settings
from bncheck.source.module import SourceModule
from bncheck.source.project import Project
from bncheck.timeline import Timeline


def timelines(
    module: SourceModule, project: Project, settings: Settings | None = None
) -> list[Timeline]:
    """Return a timeline for each entry point of the module."""
    from bncheck.source.timeline import entries

    return entries.timelines(module, project, settings or Settings())
