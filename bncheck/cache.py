"""Findings of earlier runs, kept in `.bncheck_cache` and used only where nothing has changed.

Layers are followed across files, so a finding may depend on any file of a run and on files
beside them that imports led to. One entry is therefore one whole run: its key covers the run's
files by content, the settings, the tool itself and the packages that the files form; the entry
names the other files that were looked for, with what was found there, and counts only while
they are the same.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from stat import S_ISREG
from typing import Any

from bncheck.config import Settings
from bncheck.discover import project_root
from bncheck.findings import Confidence, Edit, Finding, ResolvedFix, Severity
from bncheck.pages import rules_folder
from bncheck.worker import Report

_KEPT_ENTRIES = 30
_LARGE = 8_000_000
"""Bytes: data that a script names beside its settings is not read to be told apart."""
_PACKAGE_MARKS = ("__init__.py", "pyproject.toml", ".git")
"""What decides where an absolute import is looked for, see `bncheck.source.project`."""


@dataclass(frozen=True)
class Cache:
    """Entries in a folder; one that can't be read or written is as good as none."""

    folder: Path

    def key(self, sources: Mapping[str, bytes], settings: Settings) -> str:
        """Return what a run depends on, as far as it is known before the run."""
        digest = blake2b(_tool().encode(), digest_size=20)
        digest.update(f"{Path.cwd()}\0{settings!r}\0{_surroundings(sources)}".encode())
        for path in sorted(sources):
            digest.update(f"\0{path}\0{_digest(sources[path])}".encode())
        return digest.hexdigest()

    def look_up(self, key: str) -> Report | None:
        """Return the report of an earlier run, if all that it looked at is still the same."""
        try:
            entry = json.loads((self.folder / f"{key}.json").read_bytes())
            others = entry["others"]
            if entry["surroundings"] != _surroundings(others):
                return None
            if any(_content(path) != seen for path, seen in others.items()):
                return None
            return _report(entry["report"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def store(self, key: str, report: Report, others: Iterable[str]) -> None:
        """Keep a report, and of the other files that were looked for what was there."""
        seen = {path: _content(path) for path in others}
        entry = {
            "others": seen,
            "surroundings": _surroundings(seen),
            "report": asdict(report),
        }
        with suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            (self.folder / ".gitignore").write_text("*\n", encoding="utf-8")
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=self.folder, suffix=".tmp", delete=False
            ) as stream:
                json.dump(entry, stream)
            Path(stream.name).replace(self.folder / f"{key}.json")
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        entries = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in entries[:-_KEPT_ENTRIES]:
            path.unlink(missing_ok=True)


def cache_folder(start: Path) -> Path:
    """Return `.bncheck_cache` at the root of the project around `start`, else at `start`."""
    return (project_root(start) or start) / ".bncheck_cache"


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=20).hexdigest()


def _content(path: str) -> str | None:
    """Return what tells a file's content; of one that is no source by its size, when it changed."""
    try:
        status = Path(path).stat()
        if not S_ISREG(status.st_mode) or status.st_size > _LARGE:
            return f"{status.st_size} {status.st_mtime_ns}"
        return _digest(Path(path).read_bytes())
    except OSError:
        return None


def _surroundings(paths: Iterable[str]) -> str:
    """Return which folders around the files are packages and where their project ends."""
    folders: set[Path] = set()
    for path in paths:
        folder = Path(path).parent
        while folder not in folders:
            folders.add(folder)
            folder = folder.parent
    marks = (
        f"{folder}:{''.join(str(int((folder / mark).exists())) for mark in _PACKAGE_MARKS)}"
        for folder in sorted(folders)
    )
    return _digest("\0".join(marks).encode())


def _tool() -> str:
    """Return what tells this bncheck, Python and libcst from others, edited ones among them."""
    parts = [sys.version]
    for folder in (Path(__file__).parent, rules_folder()):
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".py", ".md"}:
                status = path.stat()
                parts.append(f"{path}:{status.st_size}:{status.st_mtime_ns}")
    libcst = find_spec("libcst")
    if libcst is not None and libcst.origin is not None:
        parts.append(f"{libcst.origin}:{os.stat(libcst.origin).st_mtime_ns}")  # noqa: PTH116
    return "\0".join(parts)


def _report(data: dict[str, Any]) -> Report:
    return Report(
        findings=[_finding(finding) for finding in data["findings"]],
        files=data["files"],
        statistics=data["statistics"],
    )


def _finding(data: dict[str, Any]) -> Finding:
    fix = data["fix"]
    data["severity"] = Severity(data["severity"])
    data["confidence"] = Confidence(data["confidence"])
    if fix is not None:
        edits = tuple(Edit(**edit) for edit in fix["edits"])
        data["fix"] = ResolvedFix(fix["description"], fix["safe"], edits)
    return Finding(**data)
