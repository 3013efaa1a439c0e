"""The files of a project, parsed when they are first needed, and what a name in one means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import libcst as cst

from bncheck.discover import INSTALLED
from bncheck.graph import Unknown
from bncheck.other_files import OtherFiles
from bncheck.source.folders import (
    added_folders,
    added_to_the_path,
    folders_of_packages,
    import_roots,
    module_name,
)
from bncheck.source.module import Assigned, Binding, Imported, SourceModule, UnparsableError, parse
from bncheck.source.plain_files import LONGEST
from bncheck.texts import Texts

_MAX_HOPS = 20
"""Re-exports followed before a name is called unknown; import cycles end here."""

_ALWAYS_EXTERNAL = frozenset({"torch", "torchvision", "numpy"})
_MOST_DEFINING = 40
"""Files that are parsed for one name that a module chosen at run time has to have."""

_MOST_KEPT = 8_000_000
"""Characters of files of which Python's own trees are kept until they are read: some 100 MB."""


@dataclass(frozen=True)
class External:
    """A name that comes from outside the project, such as `torch.nn.Conv2d`."""

    name: str


@dataclass(frozen=True)
class Defined:
    """A name that a module of the project binds to something other than an import."""

    module: SourceModule
    name: str
    binding: Assigned | cst.ClassDef | cst.FunctionDef


@dataclass(frozen=True)
class ModuleObject:
    """A name that is itself a module of the project."""

    module: SourceModule


Meaning = External | Defined | ModuleObject
_Scope = tuple[str, tuple[Path, ...]]
"""What an import is looked up in: a file's folder, and folders that it appends to `sys.path`."""


@dataclass(eq=False)
class Project:
    """Files found by path or by dotted name; nothing is imported, nothing is run."""

    texts: dict[Path, str | bytes] = field(default_factory=dict)
    """Sources given as text, by path: they stand before the file of that path."""
    others: OtherFiles = field(default_factory=OtherFiles)
    """Files of the same project that were not given: they are asked, not checked."""
    batch_norm_holders: dict[tuple[int, frozenset[Any], str], bool | Unknown] = field(
        default_factory=dict
    )
    """Answers of `bncheck.source.single.holds_batch_norm`, by the definition's identity, what it is
    given and the part that is looked into."""
    one_value_norms: dict[tuple[int, frozenset[tuple[str, object]]], bool] = field(
        default_factory=dict
    )
    """Answers of `bncheck.source.timeline.one_value`, by the definition's identity and what is
    given."""
    whole: frozenset[Path] = frozenset()
    """Files that are parsed at once, since a body in them turned out not to parse by itself."""
    variants: dict[tuple[frozenset[int], bool], int] = field(default_factory=dict)
    """Functions met that hand on to the same others: `bncheck.source.timeline.factories`."""
    compiled: dict[int, Any] = field(default_factory=dict)
    """Functions as `bncheck.source.interpret.calls` runs them, by their node's identity."""
    _resolved: dict[tuple[str, SourceModule], list[Meaning]] = field(default_factory=dict)
    _others: dict[Path, str | None] = field(default_factory=dict)
    """Files that are no Python and were looked for, with what is in them."""
    _defining: dict[str, tuple[SourceModule, ...]] = field(default_factory=dict)
    _modules: dict[Path, SourceModule | None] = field(default_factory=dict)
    _parsed: int = 0
    """How many characters were parsed so far."""
    _found: dict[tuple[str, _Scope], SourceModule | None] = field(default_factory=dict)
    _scopes: dict[str, _Scope] = field(default_factory=dict)
    _asked: set[tuple[str, str]] = field(default_factory=set)
    """What is being resolved, by name and module: nothing is looked for inside itself."""
    _answers: dict[tuple[tuple[str, str], int], list[Meaning]] = field(default_factory=dict)
    """What was found on the way, by name, module and hops left, until that is resolved."""
    _roots: dict[Path, list[Path]] = field(default_factory=dict)
    _folders: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Whether a folder of that name stands where a file, by its path, imports from."""

    @cached_property
    def said(self) -> Texts:
        """What the files of the project say, without parsing them."""
        return Texts(self.texts, self.others)

    def module(self, path: str) -> SourceModule:
        """Parse the file at `path`; raise OSError or UnparsableError."""
        key = Path(path)
        module = self._modules.get(key)
        if module is None:
            module = self._modules[key] = self._parse(path)
        return module

    def reading_whole(self, path: str) -> Project:
        """Return a project of the same files that parses one of them at once."""
        return Project(self.texts, self.others, whole=self.whole | {Path(path)})

    def probed(self) -> Iterator[tuple[Path, bool]]:
        """Yield the files that were looked for, and whether each was there and read."""
        yield from ((path, module is not None) for path, module in self._modules.items())
        yield from ((path, text is not None) for path, text in self._others.items())
        yield from ((path, True) for path in self.others.read_so_far)

    def text_beside(self, relative: str, seen_from: SourceModule) -> str | None:
        """Return the text of a settings file that a script names; None where there is none.

        It is looked for beside the script and in the folders above, as imports are, but nowhere
        else: no absolute path is read, and none that leads out of them.
        """
        if Path(relative).is_absolute() or ".." in Path(relative).parts:
            return None
        for root in import_roots(Path(seen_from.path)):
            text = self.text_at(root / relative)
            if text is not None:
                return text
        return None

    def text_near(self, relative: str, seen_from: SourceModule) -> str | None:
        """Return the text of a settings file by its path from a script's own folder.

        None where there is none, or none in a folder that imports of the script are looked for in.
        """
        script = Path(seen_from.path)
        path = Path(os.path.normpath(script.parent / relative))
        below = any(root in path.parents for root in import_roots(script))
        return self.text_at(path) if below else None

    def text_at(self, path: Path) -> str | None:
        """Return the text of a settings file; None where there is none of a usual size."""
        if path not in self._others:
            self._others[path] = self._text_of(path)
        return self._others[path]

    def look_into(self, folder: Path) -> None:
        """Note that what a folder holds was looked at."""
        self._others.setdefault(folder, None)

    def _text_of(self, path: Path) -> str | None:
        try:
            if path not in self.texts and not _may_be_settings(path):
                return None
            source = self.source(path)
            return source if isinstance(source, str) else source.decode()
        except (OSError, ValueError):
            return None

    def find(self, dotted_name: str, seen_from: SourceModule) -> SourceModule | None:
        """Return the project's module of that dotted name, as an import in `seen_from` sees it."""
        key = (dotted_name, self._scope(seen_from))
        if key not in self._found:
            self._found[key] = self._search(dotted_name, seen_from)
        return self._found[key]

    def _scope(self, module: SourceModule) -> _Scope:
        known = self._scopes.get(module.path)
        if known is None:
            folder = Path(module.path).parent
            added = [*added_to_the_path(module.text), *self._added_by_imports(module, folder)]
            known = self._scopes[module.path] = (str(folder), tuple(dict.fromkeys(added)))
        return known

    def _added_by_imports(self, module: SourceModule, folder: Path) -> Iterator[Path]:
        """Yield what a file beside a module, such as `_init_paths`, adds to the path for it."""
        for bindings in module.bindings.values():
            for binding in bindings:
                if isinstance(binding, Imported) and "." not in binding.module:
                    text = self.texts.get(folder / f"{binding.module}.py", b"")
                    yield from added_folders(text.encode() if isinstance(text, str) else text)

    def _search(self, dotted_name: str, seen_from: SourceModule) -> SourceModule | None:
        top = dotted_name.partition(".")[0]
        own_package = top == seen_from.name.partition(".")[0]
        if top in _ALWAYS_EXTERNAL and not own_package:
            return None
        relative = Path(*dotted_name.split(".")) if dotted_name else Path()
        folder = Path(seen_from.path).parent
        added = self._scope(seen_from)[1]
        if folder not in self._roots:
            self._roots[folder] = import_roots(Path(seen_from.path))
        roots = self._roots[folder]
        if "." in dotted_name:
            roots = [*roots, *folders_of_packages(folder)]
        elif f".{dotted_name}." in seen_from.name:
            # A package around the file, of a folder that an `__init__.py` makes a package as well.
            around = folders_of_packages(folder)
            roots = [*roots, *(outer.parent for outer in around if outer.name == dotted_name)]
        for root in [*roots, *(root / more for more in added for root in roots)]:
            if root.name in INSTALLED and not own_package:
                continue
            candidates = [root / relative / "__init__.py"]
            if dotted_name:
                candidates.append((root / relative).with_suffix(".py"))
            for candidate in candidates:
                module = self._try(candidate)
                if module is not None:
                    return module
        return None

    def find_in_folder(
        self, package: str, name: str, seen_from: SourceModule
    ) -> SourceModule | None:
        """Return a module of a package that is a folder without `__init__.py`."""
        key = (package.partition(".")[0], seen_from.path)
        if key not in self._folders:
            roots = self._roots.get(Path(seen_from.path).parent, [])
            added = self._scope(seen_from)[1]
            every = [*roots, *(root / more for more in added for root in roots)]
            self._folders[key] = any((root / key[0]).is_dir() for root in every)
        return self.find(f"{package}.{name}", seen_from) if self._folders[key] else None

    def defining(self, name: str) -> tuple[SourceModule, ...]:
        """Return the modules given as text that define a function or class of that name."""
        if name not in self._defining:
            paths = self.said.defining(name)
            found = (self._try(path) for path in paths[:_MOST_DEFINING])
            self._defining[name] = tuple(module for module in found if module is not None)
        return self._defining[name]

    def deriving(self, name: str) -> tuple[SourceModule, ...]:
        """Return the modules given as text in which a class names another as its base."""
        found = (self._try(path) for path in self.said.deriving(name)[:_MOST_DEFINING])
        return tuple(module for module in found if module is not None)

    def calling(self, name: str) -> Iterator[SourceModule]:
        """Yield the modules given as text that call a function or class of that name."""
        for path in self.said.calling(name)[:_MOST_DEFINING]:
            module = self._try(path)
            if module is not None:
                yield module

    def resolve(self, name: str, module: SourceModule) -> list[Meaning]:
        """Return everything that a dotted name at the top of `module` may mean.

        Branches and `try` may bind a name more than once. Empty: unknown (a built-in, a local
        name, or one too many re-exports away).
        """
        known = self._resolved.get((name, module))
        if known is not None:
            return known
        head, _, rest = name.partition(".")
        within = bool(self._asked)
        meanings: list[Meaning] = []
        for binding in self._bindings(head, module, _MAX_HOPS):
            meanings.extend(self._attribute(binding, rest, _MAX_HOPS))
        if not within:
            self._resolved[name, module] = meanings
        return meanings

    def _bindings(self, name: str, module: SourceModule, hops: int) -> list[Meaning]:
        key = (name, module.path)
        if key in self._asked:
            # A package that imports everything of modules which import from the package.
            return []
        # Modules that import everything of each other are reached in very many ways.
        answer = self._answers.get((key, hops))
        if answer is not None:
            return answer
        self._asked.add(key)
        try:
            answer = self._answers[key, hops] = self._bound(name, module, hops)
        finally:
            self._asked.remove(key)
        if not self._asked:
            self._answers.clear()
        return answer

    def _bound(self, name: str, module: SourceModule, hops: int) -> list[Meaning]:
        found: list[Meaning] = []
        for binding in module.bindings.get(name, ()):
            found.extend(self._meaning(binding, name, module, hops))
        if not found and hops:
            for star in module.star_imports:
                origin = self.find(star, module)
                if origin is None:
                    if star == "torch.nn" or star.startswith("torch.nn."):
                        found.append(External(f"{star}.{name}"))
                elif origin is not module:
                    more = self._bindings(name, origin, hops - 1)
                    found.extend(meaning for meaning in more if meaning not in found)
        return found

    def _meaning(
        self, binding: Binding, name: str, module: SourceModule, hops: int
    ) -> list[Meaning]:
        if not isinstance(binding, Imported):
            return [Defined(module, name, binding)]
        if not hops:
            return []
        origin = self.find(binding.module, module)
        if binding.attribute is None:
            return [ModuleObject(origin) if origin else External(binding.module)]
        if origin is None:
            submodule = self.find_in_folder(binding.module, binding.attribute, module)
            if submodule is not None:
                return [ModuleObject(submodule)]
            return [External(f"{binding.module}.{binding.attribute}")]
        if origin is module and binding.attribute == name:
            submodule = self.find(f"{origin.name}.{name}", module)
            return [ModuleObject(submodule)] if submodule else []
        found = self._bindings(binding.attribute, origin, hops - 1)
        if not found:
            submodule = self.find(f"{binding.module}.{binding.attribute}", module)
            if submodule is not None:
                return [ModuleObject(submodule)]
        return found

    def _attribute(self, meaning: Meaning, rest: str, hops: int) -> list[Meaning]:
        if not rest:
            return [meaning]
        match meaning:
            case External(name=name):
                return [External(f"{name}.{rest}")]
            case ModuleObject(module=module) if hops:
                head, _, tail = rest.partition(".")
                found = self._bindings(head, module, hops - 1)
                if not found:
                    submodule = self.find(f"{module.name}.{head}", module)
                    found = [ModuleObject(submodule)] if submodule else []
                return [m for f in found for m in self._attribute(f, tail, hops - 1)]
        return []

    def source(self, path: Path) -> str | bytes:
        """Return the text that was given for a path, else the file's; raise OSError."""
        return self.texts[path] if path in self.texts else path.read_bytes()

    def module_at(self, path: str) -> SourceModule | None:
        """Return the file at `path`; None where it can't be read."""
        return self._try(Path(path))

    def _try(self, path: Path) -> SourceModule | None:
        if path not in self._modules:
            try:
                self._modules[path] = self._parse(str(path))
            except (OSError, UnparsableError):
                self._modules[path] = None
        return self._modules[path]

    def _parse(self, path: str) -> SourceModule:
        place = Path(path)
        source = self.source(place)
        self._parsed += len(source)
        keep = self._parsed < _MOST_KEPT
        return parse(path, module_name(place), source, whole=place in self.whole, keep=keep)


def _may_be_settings(path: Path) -> bool:
    """Tell whether a path is a file, of no more than settings take; raise OSError."""
    return path.is_file() and path.stat().st_size <= 4 * LONGEST  # UTF-8 has up to 4 a character
