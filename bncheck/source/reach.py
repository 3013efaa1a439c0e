"""Which definitions may come to a normalisation by batch statistics: a look at words, not at code.

A network whose text names none, and neither does the text of anything that it names, directly or
not, holds none, and no structure rule has anything to say of it. Prose names nothing, nor does a
test of what something is: what replaces a norm by another finds one there. Nor does an entry of a
table whose key names the norm: who takes it out says the key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bncheck.source.module import Assigned, Imported, SourceModule, absolute
from bncheck.source.project import Defined, External, Meaning, ModuleObject, Project
from bncheck.source.prose import PROSE, is_formatted, without_prose, words

_NORM = (
    *("batchnorm", "batch_norm", "instancenorm", "instance_norm", "build_norm", "norm_cfg"),
    *(f"{q}{kind}{end}" for q in "\"'" for kind in ("batch", "instance") for end in (q, f"_{q}")),
    *("norm{", "}norm", "}_norm"),
)
"""Also of names that are put together: a piece of one stands somewhere."""
_IS_NORM = re.compile(r"batch_?norm|instance_?norm", re.IGNORECASE)
_TESTED = re.compile(r"\bisinstance\(\s*[\w.\[\]]+\s*,\s*(\([\w.,\s]*\)|[\w.]+)\s*,?\s*\)")
_CONDITION = re.compile(r"\s*(?:el)?if\b.*\bisinstance\(")
_ENTRY = re.compile(
    r"([\"']?)\b\w*(?:batch_?norm|instance_?norm)\w*\1\s*(?:=(?!=)|:)\s*[\w.]+\s*(?=[,)}\n])",
    re.IGNORECASE,
)
_REGISTRY = re.compile(r"\w+\s*(?::[^=\n]+)?=\s*[\w.]*Registry\(")
"""What other files may put anything into."""
_DECORATORS = re.compile(r"^@[^\n]*", re.MULTILINE)
"""Of the module level: what is put into a registry does not come to what else is in it."""
_SET_OF_NAMES = re.compile(r"\w+\s*=\s*\{[\w.,\s]+\}\s*")
_LOCAL_IMPORT = re.compile(
    r"^[ \t]+(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]+)|import[ \t]+([\w.]+))",
    re.MULTILINE,
)
_WORD = re.compile(r"\w+")
_DOTTED = re.compile(r"[^\W\d][\w.]*")

Key = tuple[str, str]
"""The path of a file and a name that its module level binds."""


@dataclass(eq=False)
class Reach:
    """What the definitions of some modules name, and what those name in turn."""

    project: Project
    _named_by: dict[Key, set[Key]] = field(default_factory=dict)
    """For each definition those whose text names it."""
    _seen: set[Key] = field(default_factory=set)
    _norms: set[Key] = field(default_factory=set)

    @classmethod
    def of(cls, modules: Iterable[SourceModule], project: Project) -> Reach:
        """Look at everything that the modules define, and at whatever that names."""
        reach = cls(project)
        reach.include(modules)
        return reach

    def include(self, modules: Iterable[SourceModule]) -> None:
        """Look at what further modules define, too."""
        todo = [
            (module, name)
            for module in modules
            for name, bindings in module.bindings.items()
            if not all(isinstance(binding, Imported) for binding in bindings)
        ]
        while todo:
            module, name = todo.pop()
            key = (module.path, name)
            if key in self._seen:
                continue
            self._seen.add(key)
            for found in self._names(module, name):
                self._named_by.setdefault((found.module.path, found.name), set()).add(key)
                todo.append((found.module, found.name))
        self._norms = self._leading_to(self._norms)

    def norms(self, module: SourceModule, name: str) -> bool:
        """Tell whether a name of a module may lead to a normalisation by batch statistics."""
        return (module.path, name) in self._norms

    def besides(
        self, paths: Collection[str], modules: Iterable[SourceModule]
    ) -> tuple[list[SourceModule], set[Key]]:
        """Return what may lead to what stands in the files and was not looked at for its norms.

        That is the further files of the run which name one of these, and definitions: all of
        theirs, and of the modules those that lead to no norm.
        """
        read = {module.path for module in modules}
        known = {key for key in self._norms if key[0] in read}
        more = list(self._naming(paths, read))
        self.include(more)
        return more, self._leading_to({key for key in self._seen if key[0] in paths}) - known

    def _naming(self, paths: Iterable[str], read: set[str]) -> Iterator[SourceModule]:
        places = map(Path, paths)
        stems = {place.stem if place.stem != "__init__" else place.parent.name for place in places}
        named = re.compile(rb"\b(?:%s)\b" % "|".join(map(re.escape, sorted(stems))).encode())
        for path, text in self.project.texts.items():
            encoded = text.encode() if isinstance(text, str) else text
            if str(path) not in read and named.search(encoded):
                module = self.project.module_at(str(path))
                if module is not None:
                    yield module

    def _leading_to(self, keys: set[Key]) -> set[Key]:
        found = set(keys)
        todo = list(keys)
        while todo:
            for key in self._named_by.get(todo.pop(), ()):
                if key not in found:
                    found.add(key)
                    todo.append(key)
        return found

    def _names(self, module: SourceModule, name: str) -> Iterator[Defined]:
        """Yield what the text of a definition names; note whether it names a norm itself."""
        key = (module.path, name)
        text = module.text_of(name)
        if _names_norm(text):
            text = _without_tests(PROSE.sub(_without_remarks, text))
            if all(isinstance(binding, Assigned) for binding in module.bindings.get(name, ())):
                text = _without_entries(text)
            if _names_norm(text):
                self._norms.add(key)
        if _REGISTRY.match(text):
            self._norms.add(key)
        code = _without_tests(without_prose(text))
        if code.startswith("@"):
            code = _DECORATORS.sub(" ", code)
        named = words(code)
        for word in named if module.star_imports else named & module.bindings.keys():
            for meaning in self.project.resolve(word, module):
                yield from self._defined(key, word, meaning, module, code)
        for origin, names, whole in _LOCAL_IMPORT.findall(text) if "import" in text else ():
            yield from self._imported(key, module, origin or whole, names)

    def _imported(
        self, key: Key, module: SourceModule, origin: str, names: str
    ) -> Iterator[Defined]:
        """Yield what an import inside a definition brings into it."""
        level = len(origin) - len(origin.lstrip("."))
        target = absolute(origin[level:], level, module.name, module.is_package)
        found = self.project.find(target, module)
        if found is None:
            return
        for name in _WORD.findall(names):
            for meaning in self.project.resolve(name, found):
                if isinstance(meaning, Defined):
                    yield meaning
                elif isinstance(meaning, ModuleObject):
                    self._norms.add(key)  # or anything else
        if not names or "*" in names:
            self._norms.add(key)

    def _defined(
        self, key: Key, name: str, meaning: Meaning, module: SourceModule, code: str
    ) -> Iterator[Defined]:
        match meaning:
            case External(name=outside):
                if _names_norm(outside):
                    self._norms.add(key)
            case Defined(module=origin, name=known):
                if (origin.path, known) != key:
                    yield meaning
            case ModuleObject():
                parts = r"\s*\.\s*".join(name.split("."))
                for attribute in set(re.findall(rf"(?<![\w.]){parts}\b(?:\s*\.\s*(\w+))?", code)):
                    if not attribute:  # the module itself is handed on
                        self._norms.add(key)
                        continue
                    dotted = f"{name}.{attribute}"
                    for inner in self.project.resolve(dotted, module):
                        yield from self._defined(key, dotted, inner, module, code)


def _names_norm(text: str) -> bool:
    """Tell whether a text has a piece of a norm's name, in whatever case."""
    text = text.lower()
    return any(map(text.__contains__, _NORM))


def _without_remarks(found: re.Match[str]) -> str:
    """Return nothing of a comment or of a long string, which is a docstring or a message."""
    long = found[0].startswith(("#", '"""', "'''"))
    return " " if long and not is_formatted(found) else found[0]


def _without_tests(code: str) -> str:
    """Return code without tests of what something is, and without what is done with a norm."""
    if "isinstance(" not in code:
        return code
    kept: list[str] = []
    under: int | None = None
    for line in code.split("\n"):
        indentation = len(line) - len(line.lstrip())
        if under is not None and (indentation > under or not line.strip()):
            continue
        under = None
        if "isinstance(" in line and _CONDITION.match(line) and line.rstrip().endswith(":"):
            tested = [name for types in _TESTED.findall(line) for name in _DOTTED.findall(types)]
            if tested and all(map(_IS_NORM.search, tested)):
                under = indentation
        kept.append(line)
    return _TESTED.sub(" ", "\n".join(kept))


def _without_entries(text: str) -> str:
    """Return an assignment without what is looked up by a norm's name, and without a set.

    What is in a set is asked for, not taken out.
    """
    return "" if _SET_OF_NAMES.fullmatch(text) else _ENTRY.sub(" ", text)
