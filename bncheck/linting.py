"""A lint run over source: read, pass over what can't matter, look in the cache, check.

Neither libcst nor the reader is imported before a file that may matter is found to have changed.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bncheck.cache import Cache
from bncheck.config import Settings
from bncheck.errors import BNCheckError
from bncheck.other_files import OtherFiles
from bncheck.pages import all_needs, all_pages
from bncheck.stack import with_room
from bncheck.syntax import UNREADABLE, syntax_finding
from bncheck.worker import Report, lint_files

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_sources(paths: Iterable[str]) -> dict[str, bytes]:
    """Read the files of a run; raise OSError where one can't be read."""
    return {path: Path(path).read_bytes() for path in paths}


def lint(
    sources: Mapping[str, bytes],
    settings: Settings,
    cache: Cache | None = None,
    others: OtherFiles | None = None,
) -> Report:
    """Lint files that belong together, given as text by path.

    What the `others` of their project say counts as well, where a finding hangs on it; they are
    not linted, and only read then.
    """
    check_codes(settings)
    key = cache.key(sources, settings) if cache is not None else ""
    known = cache.look_up(key) if cache is not None else None
    if known is not None:
        return known
    with _without_garbage_collection():
        report, looked_at = with_room(_lint, sources, settings, others)
    if cache is not None:
        cache.store(key, report, [path for path in looked_at if path not in sources])
    return report


def check_codes(settings: Settings) -> None:
    """Raise BNCheckError where the settings name a rule, or a prefix, that there is not."""
    codes = [*all_pages(), UNREADABLE]
    for prefix in (*settings.select, *settings.extend_select, *settings.ignore):
        if not prefix or not any(code.startswith(prefix) for code in codes):
            raise BNCheckError(
                f"there is no rule {prefix!r}; give codes such as BN101 or prefixes such as BN1 "
                "(`bncheck rule` lists them)"
            )


def tells_of_unreadable(settings: Settings) -> bool:
    """Tell whether files that can't be read are reported: unless the settings ignore their code."""
    return not any(UNREADABLE.startswith(prefix) for prefix in settings.ignore)


def _lint(
    sources: Mapping[str, bytes], settings: Settings, others: OtherFiles | None
) -> tuple[Report, list[str]]:
    # Of all rules, whichever are selected: what a rule finds depends on the files that are read.
    needs = all_needs()
    mattering = [path for path, text in sources.items() if any(need in text for need in needs)]
    unparsed = [syntax_finding(path, sources[path]) for path in sources.keys() - mattering]
    looked_at: list[str] = []
    report = Report()
    if mattering:
        from bncheck.source.project import Project

        texts: dict[Path, str | bytes] = {Path(path): text for path, text in sources.items()}
        project = Project(texts, others or OtherFiles())
        report = lint_files(mattering, project, settings)
        looked_at = [str(path) for path, _ in project.probed()]
    report.files = len(sources)
    report.findings += [finding for finding in unparsed if finding is not None]
    if not tells_of_unreadable(settings):
        report.findings = [f for f in report.findings if f.code != UNREADABLE]
    report.findings.sort(key=lambda finding: finding.sort_key)
    return report, looked_at


_MANY_OBJECTS = 500_000
"""More than this left by one run takes the collector a noticeable time."""


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Syntax trees hold no cycles that matter, and are large to walk again and again.

    What a large run leaves is frozen: the collector would go through all of it as soon as it is
    on. Small runs, of which one process may make many, are left to the collector.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if gc.get_count()[0] > _MANY_OBJECTS:
                gc.freeze()
            gc.enable()
