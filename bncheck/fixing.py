"""Makes the fixes of findings, pass after pass, and writes files whole or not at all."""

from __future__ import annotations

import difflib
import io
import os
import shutil
import tempfile
import tokenize
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bncheck.cache import Cache
from bncheck.config import Settings
from bncheck.findings import Edit, Finding
from bncheck.linting import lint
from bncheck.other_files import OtherFiles
from bncheck.worker import Report

_MAX_PASSES = 10
"""Fixes that touch the same place are made one a pass; what is left then is reported."""


@dataclass(frozen=True)
class Fixed:
    """What fixing came to; nothing is written yet."""

    report: Report
    """The findings that are left."""
    sources: Mapping[str, bytes]
    """Every file of the run, as it is now."""
    count: int
    """Fixes made."""


def fix(
    sources: Mapping[str, bytes],
    settings: Settings,
    *,
    unsafe: bool = False,
    cache: Cache | None = None,
    others: OtherFiles | None = None,
) -> Fixed:
    """Make every fix that is safe, or also those that are not; `others` are as for `lint`.

    A file whose new text would not parse is left as it was.
    """
    from bncheck.source.edit import select

    current = dict(sources)
    broken: set[str] = set()
    count = 0
    for number in range(_MAX_PASSES + 1):
        report = lint(current, settings, cache, others)
        chosen = select(
            finding.fix
            for finding in report.findings
            if finding.fix is not None
            and (finding.fix.safe or unsafe)
            and not any(edit.path in broken for edit in finding.fix.edits)
        )
        if not chosen or number == _MAX_PASSES:
            break
        edits: dict[str, list[Edit]] = defaultdict(list)
        for wanted in chosen:
            for edit in wanted.edits:
                edits[edit.path].append(edit)
        for path, changes in edits.items():
            changed = _edited(current[path], changes)
            if changed is None:
                broken.add(path)
            else:
                current[path] = changed
        count += sum(not any(e.path in broken for e in wanted.edits) for wanted in chosen)
    report.findings = [_left(finding, broken) for finding in report.findings]
    return Fixed(report, current, count)


def _left(finding: Finding, broken: Collection[str]) -> Finding:
    """Return a finding as it is told after fixing: without a fix that could not be made."""
    if finding.fix is None or not any(edit.path in broken for edit in finding.fix.edits):
        return finding
    return replace(finding, fix=None)


def write(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    """Write the files that changed, each to a temporary file that then takes its place."""
    for path, content in after.items():
        if content == before[path]:
            continue
        target = Path(os.path.realpath(path))
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            shutil.copymode(target, temporary)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def differences(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the lines of a unified diff of the files that changed."""
    for path, content in after.items():
        if content == before[path]:
            continue
        lines = difflib.unified_diff(
            _decoded(before[path])[0].splitlines(keepends=True),
            _decoded(content)[0].splitlines(keepends=True),
            fromfile=path,
            tofile=path,
        )
        for line in lines:
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _edited(content: bytes, edits: list[Edit]) -> bytes | None:
    import libcst as cst

    from bncheck.source.edit import apply

    text, encoding = _decoded(content)
    try:
        changed = apply(text, edits).encode(encoding)
        cst.parse_module(changed)
    except (ValueError, cst.ParserSyntaxError):
        return None
    return changed


def _decoded(content: bytes) -> tuple[str, str]:
    """Return a file's text without its byte order mark, and an encoding that puts it back."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return content.decode(encoding), encoding
