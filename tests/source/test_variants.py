"""Factories that vary one network: which of them are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.config import Settings
from bncheck.source.project import Project
from bncheck.worker import lint_files

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width, bias=False, deep=False):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, bias=bias)
        self.bn = nn.BatchNorm2d(width)
        if deep:
            self.more = nn.Conv2d(width, width, 3)
            self.norm = nn.BatchNorm2d(width)
        else:
            self.more = self.norm = nn.Identity()
    def forward(self, x):
        return self.norm(self.more(self.bn(self.conv(x))))

def _net(width, **arguments):
    return Net(width, **arguments)

"""

CASES = {
    "nothing is reported, but a branch is left": (["8", "16", "24, deep=True"], [10]),
    "a layer that is wrong in the first is right in another": (
        ["8, bias=True", "16, bias=False", "24, bias=True"],
        [],
    ),
    "wrong in all": (["8, bias=True", "16, bias=True", "24, bias=True"], [7]),
}


def _lint(calls: list[str]) -> tuple[list[int], dict[str, int]]:
    factories = [f"def net{n}():\n    return _net({call})\n" for n, call in enumerate(calls)]
    path = Path("nets.py")
    project = Project(texts={path: NET + "\n".join(factories)})
    report = lint_files([str(path)], project, Settings(select=("BN101",)))
    return [finding.line for finding in report.findings], report.statistics


@pytest.mark.parametrize("name", CASES)
def test_findings_count_over_the_variants_that_may_tell_more(name: str) -> None:
    calls, expected = CASES[name]
    assert _lint(calls)[0] == expected


def test_variants_of_what_was_read_are_passed_over() -> None:
    # Once the layers of every branch were constructed, and nothing is wrong with them.
    _, statistics = _lint(["8", "16", "24"])
    passed = statistics["passed over, variants of what was read"]
    assert passed == 1  # the second is read, since a branch is left, and shows nothing new
    assert statistics["networks read fully"] == 2
