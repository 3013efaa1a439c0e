"""Reads the networks of a module: class -> LayerGraph."""

from __future__ import annotations

from bncheck.graph import LayerGraph
from bncheck.source.module import SourceModule
from bncheck.source.project import Project


def graphs(module: SourceModule, project: Project) -> list[LayerGraph]:
    """Return a graph for each network that the module defines."""
    return []
