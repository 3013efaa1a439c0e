"""What a project's settings files and shell scripts say of a switch or a number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bncheck.source.module import SourceModule
from bncheck.source.project import Project
from bncheck.source.settings_files import files_of_project

_SETTINGS = (".yaml", ".yml", ".json", ".sh")
_LONGEST = 100_000
"""Characters: what is longer holds data."""


@lru_cache(maxsize=64)
def turned_on(project: Project, module: SourceModule, switch: str) -> bool:
    """Tell whether a settings file says that a switch is on, or a shell script gives its option."""
    option = re.escape(switch).replace("_", "[_-]")
    said = re.compile(
        rf"""^[^#\n]*(?:\b{option}["']?\s*[:=]\s*true\b|--{option}\b(?!\s*=?\s*false\b))""",
        re.IGNORECASE | re.MULTILINE,
    )
    return any(said.search(text) for text in _texts(project, module))


_ACCUMULATES = re.compile(r"accum|sub_?div|update_freq|iter_size", re.IGNORECASE)
"""Names of numbers of batches whose gradients are added up."""


def left_at_one(project: Project, module: SourceModule, node: cst.BaseExpression) -> bool:
    """Tell whether gradients of so many batches are added up, which is 1 unless a user sets it."""
    match node:
        case cst.Attribute(attr=cst.Name(value=name)) if _ACCUMULATES.search(name):
            return project.said.leave_at_one(name) and not _more_than_one(project, module, name)
    return False


@lru_cache(maxsize=64)
def _more_than_one(project: Project, module: SourceModule, number: str) -> bool:
    option = re.escape(number).replace("_", "[_-]")
    given = re.compile(
        rf"""^[^#\n]*(?:\b{option}["']?\s*[:=]|--{option}[ =])\s*(?!1\b)\d""",
        re.IGNORECASE | re.MULTILINE,
    )
    return any(given.search(text) for text in _texts(project, module))


def _texts(project: Project, module: SourceModule) -> Iterator[str]:
    for path in files_of_project(project, module, _SETTINGS):
        text = project.text_at(path)
        if text is not None and len(text) < _LONGEST:
            yield text
