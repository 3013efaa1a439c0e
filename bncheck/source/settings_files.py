"""The settings files of a project, of which a command line names one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from bncheck.graph import UNKNOWN
from bncheck.source import plain_files
from bncheck.source.module import SourceModule
from bncheck.source.plain_files import Format
from bncheck.source.project import Project

Tree = dict[object, object]
"""Settings, nested: what is neither a mapping nor a plain value is UNKNOWN."""

_MOST_FOLDERS = 300
_MOST_FILES = 200
"""Of one project: where there are more, they are no settings or too many to agree."""
_OWN = frozenset({"node_modules", "wandb", "data", "datasets", "annotations"})
"""Folders of other things."""
_AT_THE_ROOT = (".git", "README.md", "README.rst", "setup.py", "pyproject.toml", "requirements.txt")
_BATCH = re.compile(r"batch", re.IGNORECASE)


@lru_cache(maxsize=64)
def agreed_in_project(project: Project, module: SourceModule, written: Format) -> Tree:
    """Return what the settings agree on that a module's command line may name."""
    return agreed(of_project(project, module, written))


@lru_cache(maxsize=64)
def of_project(project: Project, module: SourceModule, written: Format) -> tuple[Tree, ...]:
    """Return the settings that a module's command line may name: the project's, by their suffix.

    They stand below the module's folder or else below one above it that the run's files share.
    """
    for folder in _folders(project, Path(module.path)):
        found = [
            tree
            for path in _below(project, folder, written.value)
            if (text := project.text_at(path)) is not None
            and (tree := plain_files.read(text, written)) is not None
        ]
        if found:
            return tuple(found)
    return ()


def files_of_project(
    project: Project, module: SourceModule, suffixes: tuple[str, ...]
) -> list[Path]:
    """Return the files with these suffixes below a module's folder, or else below one above it."""
    every = (_below(project, folder, suffixes) for folder in _folders(project, Path(module.path)))
    return next(filter(None, every), [])


def _folders(project: Project, script: Path) -> Iterator[Path]:
    shared = Path(os.path.commonpath([path.parent for path in project.texts] or [script.parent]))
    for folder in script.parents:
        yield folder
        if folder == shared or shared not in folder.parents:
            break
    if not _is_root(project, folder) and _is_root(project, folder.parent):
        yield folder.parent


def _is_root(project: Project, folder: Path) -> bool:
    """Tell whether a folder looks like the one that holds all of a project."""
    project.look_into(folder)
    return any((folder / name).exists() for name in _AT_THE_ROOT)


def _below(project: Project, folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    for seen, (root, folders, names) in enumerate(os.walk(folder)):
        if seen >= _MOST_FOLDERS or len(found) > _MOST_FILES:
            return []
        folders[:] = sorted(f for f in folders if not f.startswith((".", "_")) and f not in _OWN)
        project.look_into(Path(root))
        found += [Path(root) / name for name in sorted(names) if name.endswith(suffixes)]
    return found


def agreed(trees: Sequence[Tree]) -> Tree:
    """Return what settings that are like each other agree on.

    A key counts where all files hold it that share half of all keys with one which does. Of
    batch sizes the largest counts: what is said of it holds for all the more of the smaller ones.
    """
    joined: Tree = {}
    like = [[other for other in trees if _alike(tree, other)] for tree in trees]
    for key in {key: None for tree in trees for key in tree}:
        if all(
            key in tree or not any(key in other for other in others)
            for tree, others in zip(trees, like, strict=True)
        ):
            joined[key] = same(key, [tree[key] for tree in trees if key in tree])
    return joined


def _alike(tree: Tree, other: Tree) -> bool:
    if 2 * min(len(tree), len(other)) < max(len(tree), len(other)):
        return False
    return 2 * len(tree.keys() & other.keys()) >= len(tree.keys() | other.keys())


def same(key: object, values: Sequence[object]) -> object:
    """Return what the values of a key agree on; of different texts all, as a tuple; or UNKNOWN."""
    first, *others = values
    if not others:
        return first
    mappings = [value for value in values if isinstance(value, dict)]
    if len(mappings) == len(values):
        return agreed(mappings)
    if all(type(value) is type(first) and value == first for value in others):
        return first
    sizes = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if len(sizes) == len(values) and _BATCH.search(str(key)):
        return max(sizes)
    texts = [value for value in values if isinstance(value, str)]
    return tuple(dict.fromkeys(texts)) if len(texts) == len(values) else UNKNOWN
