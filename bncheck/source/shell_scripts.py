"""What a project's shell scripts give on the command lines of its Python scripts."""

from __future__ import annotations

import re
from functools import lru_cache

from bncheck.source.module import SourceModule
from bncheck.source.project import Project
from bncheck.source.settings_files import files_of_project

_CONTINUED = re.compile(r"\\\s*\n")
_RUNS = re.compile(r"\bpython[\d.]*\s|\btorchrun\s|\baccelerate launch\s")
_EVALUATES = re.compile(r"(?:test|eval|infer|demo|predict|val)\w*(?:\.py)?\s", re.IGNORECASE)


@lru_cache(maxsize=64)
def _commands(project: Project, module: SourceModule) -> tuple[str, ...]:
    """Return the command lines that run Python scripts which do not only evaluate."""
    texts = (project.text_at(path) for path in files_of_project(project, module, (".sh",)))
    lines = (_CONTINUED.sub(" ", text).splitlines() for text in texts if text is not None)
    every = (line.strip() for found in lines for line in found)
    return tuple(
        line
        for line in every
        if not line.startswith("#") and _RUNS.search(line) and not _EVALUATES.search(line)
    )


def largest_given(project: Project, module: SourceModule, option: str) -> int | None:
    """Return the largest number that is given for an option; None: one gives none, or no number.

    The option is named as in `args.batch_size`.
    """
    flag = re.compile(rf"--{re.escape(option).replace('_', '[-_]')}(?:\s+|=)(\S+)")
    found = [match.group(1) for line in _commands(project, module) for match in flag.finditer(line)]
    return max(map(int, found)) if found and all(text.isdigit() for text in found) else None
