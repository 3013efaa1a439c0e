"""Whether a fix that takes a parameter away breaks code of the run that relies on it.

Only a fix that was found asks, and only files are looked into that speak of what constructs the
layer, directly or not: definitions are followed by their names.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from sys import maxsize

from bncheck.findings import Lost
from bncheck.source.project import Project
from bncheck.source.prose import words
from bncheck.source.touches import Touch, touches

_DEFINITION = re.compile(r"^(?:class|def|async[ \t]+def)[ \t]+(\w+)[^\n]*", re.MULTILINE)
_LINE = re.compile(r"^(?=[^\s#)\]}\"'])", re.MULTILINE)

_MOST_DEFINITIONS = 100
"""Nearest first: what is further away uses the layer through others, and rarely by its parts."""

Key = tuple[Path, str]
"""A file and a definition of its module level; the name is empty for what stands outside."""


@dataclass(eq=False)
class Losses:
    """What relies on parameters in the files of a run."""

    project: Project
    _texts: dict[Path, str] = field(default_factory=dict)
    _words: dict[Path, set[str]] = field(default_factory=dict)
    _parts: dict[Path, dict[str, str]] = field(default_factory=dict)
    _speaking: dict[Path, dict[str, list[str]]] = field(default_factory=dict)
    _extents: dict[Path, list[tuple[int, int, str]]] = field(default_factory=dict)
    """For each definition of a file its first line, the line behind its last, and its name."""
    _lines: dict[Key, int] = field(default_factory=dict)
    """How many lines stand before a definition; not of names that a file defines twice."""
    _touches: dict[tuple[Key, str], list[Touch]] = field(default_factory=dict)
    _related: dict[Key, set[Key]] = field(default_factory=dict)

    def reliance(self, lost: Lost, path: Path, lines: tuple[int, int]) -> str | None:
        """Return where code would fail without the parameter; None where none was found.

        `lines` of `path` construct the layer, the last included.
        """
        start = self._definition_at(path, lines[0])
        related = self._leading_to((path, start))
        makers = [name for _, name in related if name]
        for key in sorted(related, key=lambda key: (key[0] != path, key)):
            for touch in self._touches_of(key, lost.parameter):
                where = lines if key[0] == path else None
                if touch.may_be(lost.type_name, where, makers) and self._concerns(
                    touch, lost, path, lines
                ):
                    return f"`{touch.text}` (line {touch.line} of {key[0].name})"
        for key, touch in self._called(related, lost.parameter):
            if touch.may_be(lost.type_name, None, makers):
                return f"`{touch.text}` (line {touch.line} of {key[0].name})"
        return None

    def _concerns(
        self,
        touch: Touch,
        lost: Lost,
        path: Path,
        lines: tuple[int, int],
    ) -> bool:
        """Tell whether a touch in what leads to the layer may be of the layer."""
        first = touch.owner[0]
        if touch.owner in (("self",), ("cls",)):
            # A layer's own class: it is constructed under its name.
            text = "\n".join(self._text(path).split("\n")[lines[0] - 1 : lines[1]])
            return re.search(rf"\b{touch.definition}\b", text) is not None
        if len(touch.owner) == 1 or touch.made:
            return True
        return touch.owner[-1] in lost.name.split(".") and first.isidentifier()

    def _called(self, related: set[Key], parameter: str) -> Iterator[tuple[Key, Touch]]:
        """Yield touches of anything in functions, and in bases, that the related ones name."""
        named = {word for key in related for word in re.findall(r"\w+", self._part(key))}
        for path in self.project.texts:
            if f".{parameter}" not in self._text(path):
                continue
            for name in sorted(named & self._parts_of(path).keys()):
                key = (path, name)
                if (
                    key in related
                    or f".{parameter}" not in self._part(key)
                    or not any(self._names(other, key) for other in related)
                ):
                    continue
                for touch in self._touches_of(key, parameter):
                    if len(touch.owner) == 1 and touch.owner[0] not in ("self", "cls"):
                        yield key, touch

    def _names(self, key: Key, other: Key) -> bool:
        """Tell whether a definition calls another that is a function, or inherits from it."""
        name = other[1]
        if key[0] != other[0] and name in self._parts_of(key[0]):
            return False  # its own file has one of that name
        is_class = self._part(other).startswith("class")
        text = self._part(key)
        if not is_class:
            return re.search(rf"\b{name}\b", text) is not None
        return re.match(rf"class\s+\w+\s*\([^)]*\b{name}\b", text) is not None

    def _leading_to(self, start: Key) -> set[Key]:
        """Return the definitions that name a definition, directly or not, and itself."""
        if start in self._related:
            return self._related[start]
        found = {start}
        todo = [start]
        for path, name in todo:
            if len(found) > _MOST_DEFINITIONS:
                break
            if not name:
                continue
            for other in {path, *self.project.texts}:
                if name not in self._words_of(other):
                    continue
                if other != path and name in self._parts_of(other):
                    continue
                for part in self._speaking_of(other).get(name, ()):
                    key = (other, part)
                    if key not in found:
                        found.add(key)
                        todo.append(key)
        self._related[start] = found
        return found

    def _touches_of(self, key: Key, parameter: str) -> list[Touch]:
        asked = (key, parameter)
        if asked not in self._touches:
            self._touches[asked] = []
            if f".{parameter}" in self._part(key):
                # The definition alone, on its own lines; if that is not all of it, the file.
                line = self._lines.get(key)
                alone = [] if line is None else ["\n" * line + self._part(key)]
                for text in (*alone, self._text(key[0])):
                    with suppress(SyntaxError, ValueError, RecursionError):
                        found = touches(text, parameter)
                        self._touches[asked] = [t for t in found if t.definition == key[1]]
                        break
        return self._touches[asked]

    def _definition_at(self, path: Path, line: int) -> str:
        self._parts_of(path)
        extents = self._extents[path]
        place = bisect_right(extents, line, key=lambda extent: extent[0]) - 1
        if place < 0:
            return ""
        _, end, name = extents[place]
        return name if line < end else ""

    def _part(self, key: Key) -> str:
        return self._parts_of(key[0]).get(key[1], "")

    def _parts_of(self, path: Path) -> dict[str, str]:
        """Return the text of each definition of a file, and under no name that of the rest."""
        if path not in self._parts:
            text = self._text(path)
            parts: dict[str, str] = {}
            rest: list[str] = []
            extents = self._extents[path] = []
            done = line = 0
            for found in _DEFINITION.finditer(text):
                after = _LINE.search(text, found.end())
                end = after.start() if after else len(text)
                rest.append(text[done : found.start()])
                line += rest[-1].count("\n")
                if found[1] in parts:
                    self._lines.pop((path, found[1]), None)
                else:
                    self._lines[path, found[1]] = line
                part = text[found.start() : end]
                parts[found[1]] = parts.get(found[1], "") + part
                begin = line + 1
                line += part.count("\n")
                extents.append((begin, line + 1 if after else maxsize, found[1]))
                done = end
            parts[""] = "".join([*rest, text[done:]])
            self._parts[path] = parts
        return self._parts[path]

    def _speaking_of(self, path: Path) -> dict[str, list[str]]:
        """Return for each word of a file which of its definitions have it."""
        if path not in self._speaking:
            speaking = self._speaking[path] = {}
            for part, body in self._parts_of(path).items():
                for word in words(body):
                    speaking.setdefault(word, []).append(part)
        return self._speaking[path]

    def _words_of(self, path: Path) -> set[str]:
        if path not in self._words:
            self._words[path] = words(self._text(path))
        return self._words[path]

    def _text(self, path: Path) -> str:
        if path not in self._texts:
            source = self.project.source(path)
            self._texts[path] = (
                source if isinstance(source, str) else source.decode("utf-8", "replace")
            )
        return self._texts[path]
