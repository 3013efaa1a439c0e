"""Switches that a project's settings files and shell scripts turn on."""

from __future__ import annotations

import re
from functools import lru_cache

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
    texts = (project.text_at(path) for path in files_of_project(project, module, _SETTINGS))
    return any(text is not None and len(text) < _LONGEST and said.search(text) for text in texts)
