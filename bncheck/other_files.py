"""The files of a project that a run was not given: they are asked, but not linted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bncheck.discover import INSTALLED, NOTEBOOK, project_root, source_files

_MOST_READ = 30_000_000
"""Bytes: some 0.1 s to read, and as long again for each question."""


@dataclass(eq=False)
class OtherFiles:
    """The Python files around the given ones: of their repository, or nearest pyproject.toml.

    pre-commit names only the files that changed, and the script that trains a network may not be
    among them. None is read before a finding hangs on what they say.
    """

    given: tuple[str, ...] = ()
    """The files of the run."""
    paths: tuple[str, ...] = ()
    """What was named for it: files and folders."""
    exclude: tuple[str, ...] = ()

    @cached_property
    def texts(self) -> Mapping[Path, bytes]:
        """Read them; of a very large repository not all, of what is installed none."""
        here = {os.path.realpath(path) for path in self.given}
        root = project_root(Path(os.path.commonpath(here))) if here else None
        if root is None or self._was_named(root) or not INSTALLED.isdisjoint(_folders(here)):
            return {}
        found: dict[Path, bytes] = {}
        left = _MOST_READ
        for path in source_files([str(root)], self.exclude):
            if path.endswith(NOTEBOOK):  # nothing imports it, and nothing in it is called
                continue
            if os.path.realpath(path) not in here and left > 0:
                with suppress(OSError):
                    found[Path(path)] = text = Path(path).read_bytes()
                    left -= len(text)
        return found

    @property
    def read_so_far(self) -> Iterable[Path]:
        """Those that the run depends on: none where nothing was asked of them."""
        return tuple(self.__dict__.get("texts", ()))

    def _was_named(self, root: Path) -> bool:
        named = {Path(os.path.realpath(path)) for path in self.paths}
        return not named.isdisjoint({root, *root.parents})


def _folders(files: Iterable[str]) -> set[str]:
    return {part for file in files for part in Path(file).parts}
