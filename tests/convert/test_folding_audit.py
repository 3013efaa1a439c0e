"""The table of claims in docs/folding-audit.md names tests and networks that exist."""

import pytest

pytest.importorskip("torch")

from test_adversarial import CASES

from fixtures.audit import ROOT, not_held, rows_of
from fixtures.models.situations import SITUATIONS

TEXT = (ROOT / "docs" / "folding-audit.md").read_text(encoding="utf-8")
NETWORKS = {case.name: case for case in CASES}


@pytest.mark.parametrize("row", rows_of(TEXT), ids=lambda row: row[0][:60])
def test_every_claim_has_tests_that_exist(row):
    assert not not_held(row, NETWORKS)


def outcome(case):
    """Say what must happen to a network, as the test of it holds."""
    if case.error:
        return "refused whole"
    gone = f"{case.folded} gone" if case.folded else ""
    gone = gone or ("its operations gone" if case.fewer_operations else "stays")
    return f"{gone}, the rest stays" if case.folded and case.refused else gone


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_has_its_row(situation):
    networks = (f"[{name}]: {outcome(NETWORKS[name])}" for name in SITUATIONS[situation])
    assert f"| {situation} | {'; '.join(networks)} |" in TEXT.splitlines()
