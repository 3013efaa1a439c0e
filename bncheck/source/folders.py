"""Folders in which imports are looked for, and the names that files have by theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bncheck.discover import is_root

_PATH_LINES = re.compile(r"^.*\bsys\.path\.(?:append|insert|extend)\(.*$", re.MULTILINE)
_STRINGS = re.compile(r"""["']([\w./-]+)["']""")


_ADDS_TO_THE_PATH = re.compile(rb"\bsys\.path\b|\badd_\w*path\(")
_JOINED = re.compile(rb"""\bjoin\([^()\n]*["']([\w./-]+)["']\s*\)""")


def added_folders(text: bytes) -> Iterator[Path]:
    """Yield the last folders of the paths that a file puts together, if it adds any."""
    if _ADDS_TO_THE_PATH.search(text):
        for string in _JOINED.findall(text):
            name = Path(string.decode()).name
            if name not in {"", ".", ".."}:
                yield Path(name)


def added_to_the_path(text: str) -> tuple[Path, ...]:
    """Return the last folders of the strings that a file appends to `sys.path`."""
    if "sys.path." not in text:
        return ()
    found = [
        Path(string).name for line in _PATH_LINES.findall(text) for string in _STRINGS.findall(line)
    ]
    return tuple(Path(name) for name in dict.fromkeys(found) if name not in {"", ".", ".."})


def folders_of_packages(folder: Path) -> Iterator[Path]:
    """Yield the packages around a folder: one of them may be on the path of a run script."""
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        yield folder
        folder = folder.parent


def module_name(path: Path) -> str:
    """Return the dotted name of a file: its packages are the folders with an `__init__.py`.

    So is a folder without one in a package.
    """
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while _is_package(folder) and folder.name:
        parts.append(folder.name)
        folder = folder.parent
    return ".".join(reversed(parts)) or path.stem


def _is_package(folder: Path) -> bool:
    return any((place / "__init__.py").is_file() for place in (folder, folder.parent))


def import_roots(path: Path) -> list[Path]:
    """Return the folders in which an absolute import of a file may be found, nearest first.

    That is the folder above its outermost package, the file's own folder (a script's), and the
    folders above up to the project's root with their `src`.
    """
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    roots = [folder]
    if path.parent != folder:
        roots.append(path.parent)
    for parent in [folder, *folder.parents][:6]:
        roots += [parent, parent / "src"]
        if is_root(parent):
            break
    return list(dict.fromkeys(roots))
