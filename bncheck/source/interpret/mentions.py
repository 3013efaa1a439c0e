"""Whether code that is not interpreted may use a layer: a look at names, class by class.

A network's forward may be understood fully and not apply a layer that another method, another
class or a script applies. Only a layer whose name nobody writes is surely unused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from bncheck.source.interpret.values import Class, Either, Instance
from bncheck.source.project import Project
from bncheck.source.prose import PROSE

_DYNAMIC = re.compile(
    r"\bgetattr\(|\bvars\(|__dict__|_modules\b|\bmodules\(|children\(|locals\(|\bget_submodule\("
)
"""Ways to reach an attribute without writing its name."""
_LIBRARIES = ("torch", "np", "F", "nn")
"""`torch.norm` is no attribute of a network."""
_FILLS = r"\.(?:append|extend|insert|add_module|update)\(|\s*\+=|\[[^\]\n]*\]\s*=[^=]"
_INITIALISES = re.compile(
    r"\binit\.\w+_\([^()\n]*\)"
    r"|[\w.]+\.(?:weight|bias)(?:\.data)?\.\w+_\([^()\n]*\)"
    r"|[\w.]+\.reset_parameters\(\)"
)
_CLASS = re.compile(r"^([ \t]*)class\s+(\w+)\s*(?:\(([^)]*)\))?\s*:", re.MULTILINE)


def holder_of(root: Instance, name: str) -> tuple[Class, str] | None:
    """Return the class and attribute that hold the layer `name`, dotted, of a network.

    A child of a Sequential or a list is held by the attribute that holds the container. None
    where no class of the project holds it, or under a name that is not known.
    """
    path = name.split(".")
    holders = [root]
    for step in path[:-1]:
        below = _below(holders[-1], step)
        if below is None:
            return None
        holders.append(below)
    owner, attribute = holders.pop(), path.pop()
    while owner.cls is None and holders:
        owner, attribute = holders.pop(), path.pop()
    return (owner.cls, attribute) if owner.cls is not None and attribute.isidentifier() else None


def mentioned(owner: Class, attribute: str, project: Project) -> bool:
    """Tell whether any code of the run reads an attribute of a class."""
    own = {_that_acts(cls.module.text) for cls in _ancestors(owner)}
    names = {cls.name for cls in _ancestors(owner)}
    if any(_reads(text, attribute, frozenset(names)) for text in own):
        return True
    texts = own | set(_texts(project, names))
    related = _relatives(names, texts)
    return any(_reads(text, attribute, related) for text in texts)


def reads_by_name_only(owner: Class) -> bool:
    """Tell whether the forward of a class surely uses no attribute that it does not name."""
    known = all(
        isinstance(cls, Class) or cls.name.startswith(("torch.nn.", "builtins."))
        for cls in owner.order
    )
    has_forward = any("forward" in cls.namespace for cls in _ancestors(owner))
    return (
        known
        and has_forward
        and not any(
            _DYNAMIC.search(body)
            for cls in _ancestors(owner)
            for name, _, body in _classes(cls.module.text)
            if name == cls.name
        )
    )


def _ancestors(owner: Class) -> list[Class]:
    return [ancestor for ancestor in owner.order if isinstance(ancestor, Class)]


def _below(holder: Instance, name: str) -> Instance | None:
    """Return what an attribute holds; None where it is not surely an instance."""
    value = holder.state.get(name)
    if isinstance(value, Either):
        found = [option for option in value.options if isinstance(option, Instance)]
        value = found[0] if len(found) == 1 else None
    return value if isinstance(value, Instance) else None


def _texts(project: Project, names: set[str]) -> Iterable[str]:
    """Yield the texts of the run that speak of one of the classes."""
    for path in project.texts:
        source = project.source(Path(path))
        text = source if isinstance(source, str) else source.decode("utf-8", "replace")
        if any(name in text for name in names):
            yield _that_acts(text)


@lru_cache(maxsize=64)
def _that_acts(text: str) -> str:
    """Return a text without comments and what gives layers their first values; strings are kept."""
    code = PROSE.sub(lambda found: "" if found[0][0] == "#" else found[0], text)
    return _INITIALISES.sub("", code)


def _relatives(names: set[str], texts: set[str]) -> frozenset[str]:
    """Return the classes, those that inherit from them, and what these inherit from besides."""
    related = set(names)
    known = [parts for text in texts for parts in _classes(text)]
    grown = True
    while grown:
        grown = False
        for name, bases, _ in known:
            if name not in related and related & bases:
                related |= {name, *bases}
                grown = True
    return frozenset(related)


def _reads(text: str, attribute: str, related: frozenset[str]) -> bool:
    """Tell whether a text reads an attribute of one of the classes, or quotes its name.

    What another class reads on its own `self` is an attribute of its own.
    """
    if attribute not in text:
        return False
    if _reads_in(text, attribute, of_self=False):
        return True
    classes = list(_classes(text))
    inside = [body for _, _, body in classes]
    own = [body for name, _, body in classes if name in related]
    if any(_reads_in(body, attribute) for body in own):
        return True
    for body in sorted(inside, key=len, reverse=True):
        text = text.replace(body, "")
    return _reads_in(text, attribute)


@lru_cache(maxsize=4096)
def _reads_in(text: str, attribute: str, *, of_self: bool = True) -> bool:
    """Tell whether a text reads an attribute, or quotes its name.

    To store it, or to put something into it, is not to read it.
    """
    # What owns it is asked for last: a search for what begins with letters is much faster.
    owners = _LIBRARIES if of_self else (*_LIBRARIES, "self")
    owned = "".join(rf"(?<!\b{owner}\.{attribute})" for owner in owners)
    read = rf"\.{attribute}\b{owned}(?!\s*(?::[^=\n]+)?=[^=])(?!{_FILLS})"
    return any(re.search(pattern, text) for pattern in (read, rf"['\"]{attribute}\b"))


@lru_cache(maxsize=256)
def _classes(text: str) -> tuple[tuple[str, frozenset[str], str], ...]:
    """Return the name, the names of the bases and the body of each class in a text."""
    return tuple(_each_class(text))


def _each_class(text: str) -> Iterator[tuple[str, frozenset[str], str]]:
    for found in _CLASS.finditer(text):
        indent, name, bases = found.groups()
        after = re.compile(rf"^[ \t]{{0,{len(indent)}}}[^\s#)\]}}]", re.MULTILINE)
        ending = after.search(text, found.end())
        body = text[found.end() : ending.start() if ending else len(text)]
        yield name, frozenset(re.findall(r"(\w+)\s*(?:,|$)", bases or "")), body
