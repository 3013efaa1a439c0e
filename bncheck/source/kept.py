"""Tensors that a forward keeps on a module, and whether any other code reads them: by the text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bncheck.source.project import Project

_FUNCTION = re.compile(r"^[ \t]*(?:async )?def ", re.MULTILINE)


def is_read_elsewhere(name: str, project: Project) -> bool:
    """Tell whether any function of the run reads an attribute of this name that it does not set."""
    reads = re.compile(rf"\.{name}\b(?!\s*(?:=(?!=)|\())")
    sets = re.compile(rf"\.{name}\s*=(?!=)")
    return any(
        reads.search(part) is not None and sets.search(part) is None
        for text in _texts(project, name)
        for part in _FUNCTION.split(text)
    )


def _texts(project: Project, name: str) -> Iterable[str]:
    """Yield the texts of the run that have the name."""
    in_bytes = name.encode()
    for text in project.texts.values():
        if isinstance(text, str):
            if name in text:
                yield text
        elif in_bytes in text:
            yield text.decode("utf-8", "replace")
