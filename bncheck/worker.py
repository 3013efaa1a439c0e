"""Runs the checks over source files and turns their matches into findings.

All files of a run share one `Project`, since a layer may be constructed in one file and meet its
BatchNorm in another: matches are gathered over every network that was read before any is
reported, and stand in the file where the layer is constructed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bncheck.checks import Check, all_checks
from bncheck.config import Settings
from bncheck.depth import deep
from bncheck.findings import Confidence, Finding, Match
from bncheck.graph import LayerGraph, Site
from bncheck.pages import all_pages
from bncheck.syntax import as_written, unreadable
from bncheck.tally import Tally
from bncheck.timeline import Timeline

if TYPE_CHECKING:
    from bncheck.source.losses import Losses
    from bncheck.source.module import SourceModule
    from bncheck.source.project import Project
    from bncheck.source.understanding import Understanding

_NOQA = re.compile(
    r"#\s*noqa(?!\w)(?:\s*:\s*(?P<codes>[A-Z]+[0-9]*(?:[,\s]+[A-Z]+[0-9]+)*))?", re.IGNORECASE
)


@dataclass
class Report:
    """What a run found, and how much of the code it understood."""

    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    statistics: dict[str, int] = field(default_factory=dict)


def lint_source(
    text: str, path: str = "<string>", settings: Settings | None = None
) -> list[Finding]:
    """Return the findings in one file's text.

    Imports of other files of the same project are followed from `path` where it names a real
    place; a text that does not parse gives one `BN001` finding.
    """
    from bncheck.source.project import Project

    return lint_files([path], Project(texts={Path(path): text}), settings or Settings()).findings


def lint_files(paths: Iterable[str], project: Project, settings: Settings) -> Report:
    """Lint these files of a project; raise OSError if one can't be read.

    Findings may also stand in other files whose text the project was given: a layer may be
    constructed where nothing hints at the BatchNorm that it meets.
    """
    from bncheck.source.outline import UnparsableBodyError, unvalidated

    paths = list(paths)
    with deep(), unvalidated():
        while True:
            try:
                return _lint_files(paths, project, settings)
            except UnparsableBodyError as problem:
                project = project.reading_whole(problem.path)


def _lint_files(paths: Iterable[str], project: Project, settings: Settings) -> Report:
    from bncheck.source.losses import Losses
    from bncheck.source.module import UnparsableError
    from bncheck.source.understanding import Understanding

    report = Report()
    modules: list[SourceModule] = []
    in_run = set(project.texts)
    for path in paths:
        report.files += 1
        in_run.add(Path(path))
        try:
            modules.append(project.module(path))
        except UnparsableError:
            report.findings.append(unreadable(path, project.source(Path(path))))
    by_path: dict[str, list[tuple[str, Match]]] = defaultdict(list)
    understanding = Understanding()
    for code, match in (
        *_structure_matches(modules, project, settings, understanding),
        *_timeline_matches(modules, project, settings, understanding),
    ):
        by_path[match.site.path].append((code, match))
    report.statistics.update(understanding.counts())
    losses = Losses(project)
    for path, matches in by_path.items():
        if Path(path) in in_run:
            report.findings += _findings(matches, project.module(path), losses, settings)
    report.findings.sort(key=lambda finding: finding.sort_key)
    return report


def enabled_checks(settings: Settings, reads: str, subject: type) -> list[Check]:
    """Return the checks on `subject` that the settings ask for, of rules that read `reads`."""
    pages = all_pages()
    return [
        check
        for code, check in all_checks().items()
        if check.subject is subject
        and reads in pages[code].reads
        and settings.enables(code, pages[code].default)
    ]


def _structure_matches(
    modules: Sequence[SourceModule],
    project: Project,
    settings: Settings,
    understanding: Understanding,
) -> list[tuple[str, Match]]:
    """Check every network of the modules, and the norms that no network was seen to hold."""
    from bncheck.source.lift import networks
    from bncheck.source.strays import stray_norms

    tally = Tally(enabled_checks(settings, "source", LayerGraph))
    if tally.checks:
        for graph in networks(modules, project, understanding, tally.suspects):
            tally.add(graph)
    known = {site for _, site in tally.constructed}
    constants = [check for check in tally.checks if check.unapplied]
    for module in modules if constants else ():
        if (strays := stray_norms(module, known)) is not None:
            for check in constants:
                for match in check.function(strays):
                    tally.note(check, False, match)
    return tally.matches()


def _timeline_matches(
    modules: Sequence[SourceModule],
    project: Project,
    settings: Settings,
    understanding: Understanding,
) -> list[tuple[str, Match]]:
    """Check what happens to models from every entry point; the surest match of a site counts."""
    from bncheck.source.outline import UnparsableBodyError
    from bncheck.source.timeline import timelines
    from bncheck.source.understanding import internal

    checks = enabled_checks(settings, "source", Timeline)
    surest: dict[tuple[str, Site], Match] = {}
    order = list(Confidence)
    for module in modules if checks else ():
        try:
            found = [
                (check.code, _as_sure_as_its_file(timeline, match))
                for timeline in timelines(module, project, settings)
                for check in checks
                for match in check.function(timeline)
            ]
        except UnparsableBodyError:
            raise
        except Exception as problem:
            understanding.scripts_given_up[internal(problem)] += 1
            continue
        for code, match in found:
            known = surest.setdefault((code, match.site), match)
            surer = order.index(known.confidence) - order.index(match.confidence)
            # A method by itself does not know the switch that its caller asks.
            if surer > 0 or (surer == 0 and known.severity is None and match.severity is not None):
                surest[code, match.site] = match
    return [(code, match) for (code, _), match in surest.items()]


def _as_sure_as_its_file(timeline: Timeline, match: Match) -> Match:
    """Return what was found in a unit test as possible only: what is trained there is discarded.

    A benchmark may well train what it reports of.
    """
    if timeline.is_test and "benchmark" not in timeline.path:
        return replace(match, confidence=Confidence.POSSIBLE)
    return match


def _findings(
    matches: Sequence[tuple[str, Match]],
    module: SourceModule,
    losses: Losses,
    settings: Settings,
) -> list[Finding]:
    """Turn the matches that stand in a module into findings, unless a comment silences them."""
    from bncheck.source.edit import resolve, targets
    from bncheck.source.exact import exact

    matches = [
        (code, match)
        for code, match in matches
        if settings.pedantic or match.confidence is not Confidence.POSSIBLE
    ]
    if not matches:
        return []
    wanted: list[object] = [match.site.mark for _, match in matches]
    wanted += [c.site.mark for _, match in matches if match.fix for c in match.fix.changes]
    written = exact(module, wanted)
    shown = [
        (
            code,
            match,
            written.nodes.get(id(match.site.mark)),
            targets(match.fix, written) if match.fix is not None else None,
        )
        for code, match in matches
    ]
    marks: list[object] = [node for _, _, node, _ in shown]
    marks += [target.node for *_, planned in shown for target in planned or ()]
    ranges = written.ranges(marks)
    lines = written.lines
    findings = []
    for code, match, node, planned in shown:
        where = ranges.get(id(node))
        if where is None or silenced(code, (lines[where.line - 1], lines[where.end_line - 1])):
            continue
        page = all_pages()[code]
        fix = resolve(match.fix, planned, ranges, written) if match.fix and planned else None
        relied_on = None
        if fix is not None and match.fix is not None and match.fix.loses is not None:
            lines_of = (where.line, where.end_line)
            relied_on = losses.reliance(match.fix.loses, Path(module.path), lines_of)
        findings.append(
            Finding(
                code=code,
                name=page.name,
                path=module.path,
                line=where.line,
                column=where.column,
                end_line=where.end_line,
                end_column=where.end_column,
                message=match.message,
                hint=match.hint
                if relied_on is None
                else f"{match.hint}; not done by --fix, since {relied_on} may rely on it",
                severity=match.severity or page.severity,
                confidence=match.confidence,
                fix=fix if relied_on is None else None,
                source_line=as_written(lines[where.line - 1].rstrip("\r\n")),
            )
        )
    return findings


def silenced(code: str, lines: Iterable[str]) -> bool:
    """Tell whether a `# noqa` comment on one of the lines names the code, or names none."""
    for line in lines:
        found = _NOQA.search(line)
        if found is None:
            continue
        codes = found["codes"]
        if codes is None or any(
            code.startswith(named.upper()) for named in re.split(r"[,\s]+", codes) if named
        ):
            return True
    return False
