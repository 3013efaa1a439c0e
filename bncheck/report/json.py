"""Findings for programs: one array of objects, whose keys stay."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bncheck.findings import Finding, ResolvedFix


def findings_as_json(findings: Iterable[Finding]) -> str:
    """Return the array; lines and columns count from 1, ends are behind the last character.

    In a notebook lines are those of the cell, whose number is null for other files.
    """
    return json.dumps([_object(finding) for finding in findings], indent=2)


def _object(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "name": finding.name,
        "path": finding.path,
        "cell": finding.cell,
        "line": finding.line,
        "column": finding.column,
        "end_line": finding.end_line,
        "end_column": finding.end_column,
        "message": finding.message,
        "hint": finding.hint,
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "fix": None if finding.fix is None else _fix(finding.fix),
    }


def _fix(fix: ResolvedFix) -> dict[str, object]:
    return {
        "safe": fix.safe,
        "description": fix.description,
        "edits": [
            {
                "path": edit.path,
                "cell": edit.cell,
                "line": edit.line,
                "column": edit.column,
                "end_line": edit.end_line,
                "end_column": edit.end_column,
                "text": edit.text,
            }
            for edit in fix.edits
        ],
    }
