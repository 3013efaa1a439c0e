"""The table of claims in docs/scripts-audit.md names tests and small sources that exist."""

from __future__ import annotations

import pytest

from bncheck.pages import all_pages
from fixtures.audit import ROOT, in_brackets, not_held, rows_of
from fixtures.expectations import all_clauses

TEXT = (ROOT / "docs" / "scripts-audit.md").read_text(encoding="utf-8")
ROWS = rows_of(TEXT)
CLAUSES = {clause.folder.stem: clause for clause in all_clauses("scripts")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_every_claim_is_held_by_what_exists(row: list[str]) -> None:
    assert not not_held(row, CLAUSES)


def test_every_small_source_has_its_row() -> None:
    assert {name for row in ROWS for name in in_brackets(row[-1])} == CLAUSES.keys()


def test_every_rule_has_its_row_a_mistake_and_a_right_form() -> None:
    flagged = {place.code for clause in CLAUSES.values() for place in clause.expected}
    silent = {name.partition("-")[0] for name, clause in CLAUSES.items() if not clause.expected}
    codes = [code for code in all_pages() if "BN2" <= code < "BN6"]
    assert flagged >= {*codes}
    assert silent >= {*codes}
    assert all(any(row[0].startswith(code) for row in ROWS) for code in codes)
