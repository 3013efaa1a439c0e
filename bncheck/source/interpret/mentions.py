"""Whether code that is not interpreted may use a layer: a look at names, file by file.

A network's forward may be understood fully and not apply a layer that another method, another
class or a script applies. Only a layer whose name nobody writes is surely unused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from bncheck.graph import UNKNOWN, Unknown
from bncheck.source.interpret.values import Class, Either, Instance
from bncheck.source.project import Project


def mentioned(root: Instance, name: str, project: Project) -> bool | Unknown:
    """Tell whether code reads the attribute that holds the layer `name` of a network.

    `name` is dotted, from the root. UNKNOWN where the layer is no attribute of a class of the
    project, such as a child of a Sequential.
    """
    holder, _, attribute = name.rpartition(".")
    owner = _descend(root, holder.split(".") if holder else [])
    if owner is None or owner.cls is None or attribute.isdigit():
        return UNKNOWN
    classes = [ancestor for ancestor in owner.cls.order if isinstance(ancestor, Class)]
    own_files = {cls.module.path: cls.module.text for cls in classes}
    names = {cls.name for cls in classes}
    return any(_reads(text, attribute) for text in own_files.values()) or any(
        _reads_on_others(text, attribute)
        for text in _texts(project, names)
        if text not in own_files.values()
    )


def _descend(root: Instance, path: Iterable[str]) -> Instance | None:
    """Follow attribute names from an instance; None where one is not surely an instance."""
    for name in path:
        value = root.state.get(name)
        if isinstance(value, Either):
            found = [option for option in value.options if isinstance(option, Instance)]
            value = found[0] if len(found) == 1 else None
        if not isinstance(value, Instance):
            return None
        root = value
    return root


def _texts(project: Project, names: set[str]) -> Iterable[str]:
    """Yield the texts of the run that speak of one of the classes."""
    for path in project.texts:
        source = project.source(Path(path))
        text = source if isinstance(source, str) else source.decode("utf-8", "replace")
        if any(name in text for name in names):
            yield text


@lru_cache(maxsize=4096)
def _reads(text: str, attribute: str) -> bool:
    """Tell whether a text reads an attribute, other than storing it, or quotes its name."""
    read = rf"\.{attribute}\b(?!\s*(?::[^=\n]+)?=[^=])"
    return re.search(rf"{read}|['\"]{attribute}\b", text) is not None


@lru_cache(maxsize=4096)
def _reads_on_others(text: str, attribute: str) -> bool:
    read = rf"(?<!\bself)\.{attribute}\b(?!\s*=[^=])"
    return re.search(rf"{read}|['\"]{attribute}\b", text) is not None
