"""Which files a lint run looks at."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from bncheck.errors import BNCheckError

_PASSED_OVER = frozenset(
    {
        ".git", ".hg", ".svn", ".tox", ".nox", ".venv", "venv", ".eggs", "build", "dist",
        "__pycache__", "node_modules", "site-packages", ".mypy_cache", ".pytest_cache",
        ".ruff_cache", ".bncheck_cache", ".ipynb_checkpoints",
    }
)  # fmt: skip
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders in which other people's packages lie beside one another: not one project."""
_NOTE = "._"
"""How macOS begins the names of what it keeps beside files on other disks."""
NOTEBOOK = ".ipynb"
_SOURCE_SUFFIXES = (".py", ".pyi", ".pyw", NOTEBOOK)
_SEARCHED_FOR = (".py", NOTEBOOK)
_MODEL_SUFFIXES = (".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".bin")
_MODEL_BEGINNINGS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""Of a zip archive (all that torch saves today) and of a pickle (what it saved before)."""


def source_files(paths: Iterable[str], exclude: Iterable[str] = ()) -> list[str]:
    """Return the Python files and notebooks at or below the paths, each once.

    One that is named always counts.

    Raises BNCheckError if there is nothing at a path.
    """
    patterns = list(exclude)
    found: dict[str, str] = {}
    for path in paths:
        for file in _below(path, patterns):
            found.setdefault(os.path.realpath(file), str(Path(file)))
    return sorted(found.values())


def without_excluded(paths: Iterable[str], exclude: Iterable[str]) -> list[str]:
    """Return the paths that no pattern excludes, neither themselves nor through a folder above.

    For callers that name each file, as pre-commit does, and still want the exclusions to count.
    """
    patterns = list(exclude)
    return [
        path
        for path in paths
        if not any(_excluded(part, patterns) for part in (Path(path), *Path(path).parents))
    ]


def project_root(start: Path) -> Path | None:
    """Return the nearest folder at or above `start` that a repository or a project begins in."""
    return next(filter(is_root, (start, *start.parents)), None)


def is_root(folder: Path) -> bool:
    """Tell whether a repository or a project begins in a folder."""
    return (folder / ".git").exists() or (folder / "pyproject.toml").is_file()


def is_model_file(path: str) -> bool:
    """Tell from its first bytes, and for a doubtful one its name, whether a file is no source."""
    file = Path(path)
    if not file.is_file() or file.name.endswith(_SOURCE_SUFFIXES):
        return False
    with file.open("rb") as stream:
        beginning = stream.read(16)
    return beginning.startswith(_MODEL_BEGINNINGS) or file.name.endswith(_MODEL_SUFFIXES)


def _below(path: str, patterns: list[str]) -> Iterator[str]:
    if Path(path).is_file():
        yield path
        return
    if not Path(path).is_dir():
        raise BNCheckError(f"{path} does not exist; give files or folders to lint")
    for folder, folders, files in os.walk(path, onerror=_refuse):
        folders[:] = sorted(
            f for f in folders if f not in _PASSED_OVER and not _excluded(Path(folder, f), patterns)
        )
        for file in sorted(files):
            if not file.endswith(_SEARCHED_FOR) or file.startswith(_NOTE):
                continue
            whole = Path(folder, file)
            if whole.is_file() and not _excluded(whole, patterns):
                yield str(whole)


def _refuse(problem: OSError) -> None:
    raise problem


def _excluded(path: Path, patterns: Iterable[str]) -> bool:
    posix = path.as_posix()
    return any(
        fnmatch(posix, pattern) or fnmatch(posix, f"*/{pattern}") or fnmatch(path.name, pattern)
        for pattern in (pattern.rstrip("/") for pattern in patterns)
    )
