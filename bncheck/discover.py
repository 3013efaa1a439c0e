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
        ".ruff_cache",
    }
)  # fmt: skip


def source_files(path: str, exclude: Iterable[str] = ()) -> Iterator[str]:
    """Yield the Python files at or below a path, sorted; a file that is named is always taken.

    Raises BNCheckError if there is nothing at the path.
    """
    patterns = list(exclude)
    if Path(path).is_file():
        yield path
        return
    if not Path(path).is_dir():
        raise BNCheckError(f"{path} does not exist; give files or folders to lint")
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(
            f for f in folders if f not in _PASSED_OVER and not _excluded(Path(folder, f), patterns)
        )
        for file in sorted(files):
            whole = Path(folder, file)
            if file.endswith(".py") and not _excluded(whole, patterns):
                yield str(whole)


def _excluded(path: Path, patterns: Iterable[str]) -> bool:
    posix = path.as_posix()
    return any(
        fnmatch(posix, pattern) or fnmatch(posix, f"*/{pattern}") or fnmatch(path.name, pattern)
        for pattern in patterns
    )
