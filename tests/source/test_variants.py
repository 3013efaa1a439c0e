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

FUNCTION = """
from torch import nn

class Net(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body
    def forward(self, x):
        return self.body(x)

def layers(width, norm):
    if norm:
        return nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width))
    return nn.Sequential(nn.Conv2d(3, width, 3))

def _net(width, norm=False):
    return Net(layers(width, norm))

"""

CASES = {
    "nothing is reported, but a branch is left": (["8", "16", "24, deep=True"], [10]),
    "a layer that is wrong in the first is right in another": (
        ["8, bias=True", "16, bias=False", "24, bias=True"],
        [],
    ),
    "wrong in all": (["8, bias=True", "16, bias=True", "24, bias=True"], [7]),
}


LAYER = """
from torch import nn
import torch.nn.functional as F

class Conv(nn.Conv2d):
    def __init__(self, *shape, plain):
        super().__init__(*shape)
        self.plain = plain
    def forward(self, x):
        weight = self.weight if self.plain else self.weight.sign()
        return F.conv2d(x, weight, self.bias) * 0.5

class Net(nn.Module):
    def __init__(self, width, plain=False):
        super().__init__()
        self.conv = Conv(3, width, 3, plain=plain)
        self.bn = nn.BatchNorm2d(width)
    def forward(self, x):
        return self.bn(self.conv(x))

def _net(width, **arguments):
    return Net(width, **arguments)

"""


def _lint(calls: list[str], source: str = NET) -> tuple[list[int], dict[str, int]]:
    factories = [f"def net{n}():\n    return _net({call})\n" for n, call in enumerate(calls)]
    path = Path("nets.py")
    project = Project(texts={path: source + "\n".join(factories)})
    report = lint_files([str(path)], project, Settings(select=("BN101",)))
    return [finding.line for finding in report.findings], report.statistics


@pytest.mark.parametrize("name", CASES)
def test_findings_count_over_the_variants_that_may_tell_more(name: str) -> None:
    calls, expected = CASES[name]
    assert _lint(calls)[0] == expected


def test_how_a_layer_is_applied_may_differ_between_variants() -> None:
    with_both, with_one = (
        _lint(calls, LAYER)[1]["passed over, variants of what was read"]
        for calls in (["8", "16", "24, plain=True"], ["8"])
    )
    assert (with_both, with_one) == (1, 0)  # the last is read, and after it nothing is open
    assert _lint(["8", "24, plain=True"], LAYER)[1]["networks read fully"] == 2


def test_layers_left_in_a_function_count_as_well() -> None:
    _, statistics = _lint(["8", "16", "24, norm=True"], FUNCTION)
    assert statistics["networks read fully"] == 2
    assert statistics["passed over, variants of what was read"] == 1


def test_variants_of_what_was_read_are_passed_over() -> None:
    # Once the layers of every branch were constructed, and nothing is wrong with them.
    _, statistics = _lint(["8", "16", "24"])
    passed = statistics["passed over, variants of what was read"]
    assert passed == 1  # the second is read, since a branch is left, and shows nothing new
    assert statistics["networks read fully"] == 2
