"""Findings for people: place and message, the source line, a hint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import click

from bncheck.findings import Confidence, Finding, Severity

_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "blue"}


def findings_as_text(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield a block of lines for each finding."""
    for finding in findings:
        yield _block(finding)


def summary(findings: Iterable[Finding], files: int, *, unsafe: bool, fixed: int = 0) -> str:
    """Return the closing line: how many findings, and how many an option would fix."""
    found = list(findings)
    total = len(found) + fixed
    mended = f" ({fixed} fixed, {len(found)} remaining)" if fixed else ""
    text = f"Found {_count(total, 'finding')}{mended} in {_count(files, 'file')}."
    fixable = [f for f in found if f.fix is not None]
    offered = [f for f in fixable if unsafe or (f.fix is not None and f.fix.safe)]
    if offered:
        text += f" {len(offered)} fixable with --fix."
    if len(fixable) > len(offered):
        text += f" {len(fixable) - len(offered)} fixable with --fix --unsafe-fixes."
    return text


def statistics(findings: Iterable[Finding], reader: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each rule that found something, and for each count of the reader's."""
    counts = Counter((finding.code, finding.name) for finding in findings)
    for (code, name), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"{count:6}  {code}  {name}"
    for what, count in reader.items():
        yield f"{count:6}  {what}"


def _block(finding: Finding) -> str:
    cell = f"cell {finding.cell}:" if finding.cell is not None else ""
    place = click.style(f"{finding.path}:{cell}{finding.line}:{finding.column}:", bold=True)
    code = click.style(finding.code, fg=_COLORS[finding.severity], bold=True)
    possible = " (possible)" if finding.confidence is Confidence.POSSIBLE else ""
    lines = [f"{place} {code} {finding.message}{possible}"]
    margin = " " * len(str(finding.line))
    if finding.source_line.strip():
        shown, indentation, width = _underlined(finding)
        lines += [f"{margin} |", f"{finding.line} | {shown}"]
        lines.append(f"{margin} | {indentation}{click.style('^' * width, fg='red')}")
    lines.append(f"{margin} = hint: {finding.hint}\n")
    return "\n".join(lines)


def _underlined(finding: Finding) -> tuple[str, str, int]:
    """Return the line, what stands before the marks, and how many marks; tabs as they are."""
    line = finding.source_line
    start = finding.column - 1
    end = finding.end_column - 1 if finding.end_line == finding.line else len(line)
    indentation = "".join("\t" if character == "\t" else " " for character in line[:start])
    printable = "".join(
        c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line
    )
    return printable.rstrip(), indentation, max(1, end - start)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def own_errors(number: int) -> str:
    """Return what a user has to know where errors of bncheck's own left code unread."""
    return (
        f"Warning: {_count(number, 'error')} in bncheck itself left networks or scripts unread, so "
        "mistakes there are not told. Please report what BNCHECK_STRICT=1 shows."
    )
