"""The table of claims in docs/structure-audit.md names tests and small sources that exist."""

from __future__ import annotations

import pytest
from libcst.metadata import MetadataWrapper

from bncheck import linting
from bncheck.config import Settings
from bncheck.linting import lint
from bncheck.pages import all_pages
from fixtures.audit import ROOT, in_brackets, not_held, rows_of
from fixtures.expectations import all_clauses

TEXT = (ROOT / "docs" / "structure-audit.md").read_text(encoding="utf-8")
ROWS = rows_of(TEXT)
CLAUSES = {clause.folder.stem: clause for clause in all_clauses("structure")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_every_claim_is_held_by_what_exists(row: list[str]) -> None:
    assert not not_held(row, CLAUSES)


def test_every_small_source_has_its_row() -> None:
    assert {name for row in ROWS for name in in_brackets(row[-1])} == CLAUSES.keys()


def test_every_structure_rule_has_its_rows_and_mistakes() -> None:
    flagged = {place.code for clause in CLAUSES.values() for place in clause.expected}
    codes = [code for code in all_pages() if code.startswith("BN1")]
    assert flagged >= {*codes}
    assert all(any(row[0].startswith(code) for row in ROWS) for code in codes)


def test_a_file_without_the_words_is_seen_by_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linting, "lint_files", None)  # calling it fails
    assert lint({"plain.py": b"import os\n"}, Settings()).files == 1


@pytest.mark.parametrize("name", ["kinds-of-norms", "helper-with-bias-off"])
def test_no_metadata_provider_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetadataWrapper, "__init__", None)
    clause = CLAUSES[name]
    assert clause.found() == clause.expected
