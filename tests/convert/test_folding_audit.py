"""The table of claims in docs/folding-audit.md names tests and networks that exist."""

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from test_adversarial import CASES

from fixtures.models.situations import SITUATIONS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "folding-audit.md").read_text(encoding="utf-8")
NETWORKS = {case.name: case for case in CASES}


def claims():
    """Return the rows of the tables, each as its cells, without their heads."""
    rows = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]
    return [row for row in rows if row[0] not in {"claim", "situation"}]


def functions(path):
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", claims(), ids=lambda row: row[0][:60])
def test_every_claim_has_tests_that_exist(row):
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row[-1])
    networks = re.findall(r"\[([^\]]+)\]", row[-1])
    assert named or networks
    assert not [f"{path}::{name}" for path, name in named if name not in functions(path)]
    assert not [name for name in networks if name not in NETWORKS]


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
