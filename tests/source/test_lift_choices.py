"""BN101 where a norm is chosen: `match`, enumerations, class attributes, records; `# yes` marks."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.worker import lint_source

HEAD = """
import enum
import itertools
from typing import NamedTuple
import torch.nn as nn

"""
NETWORK = """
class Net(nn.Module):
    def __init__(self, kind={kind}):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1){mark}
        self.norm = make_norm(kind, 4)
    def forward(self, x):
        return self.norm(self.conv(x))
"""
MATCH = """
def make_norm(kind, width):
    match kind:
        case "bn" | "batch" if width > 1:
            return nn.BatchNorm2d(width)
        case str() as name if name == "instance":
            return nn.InstanceNorm2d(width)
        case ("group", groups):
            return nn.GroupNorm(groups, width)
        case None:
            return nn.Identity()
        case _:
            raise ValueError(kind)
"""
MEMBERS = """
class Norm({bases}):
    BATCH = {batch}
    NONE = {none}

def make_norm(kind, width):
    {choice}
"""
TABLE = "return {Norm.BATCH: nn.BatchNorm2d, Norm.NONE: nn.Identity}[kind](width)"
BRANCH = "return nn.BatchNorm2d(width) if kind is Norm.BATCH else nn.Identity()"
VALUE = "return {'batch': nn.BatchNorm2d, 'none': nn.Identity}[kind.value](width)"
TEXT = {"bases": "str, enum.Enum", "batch": "'batch'", "none": "'none'"}
NUMBER = {"bases": "enum.Enum", "batch": "enum.auto()", "none": "enum.auto()"}


def choice(helper: str, kind: str, found: bool) -> str:
    return helper + NETWORK.format(kind=kind, mark="  # yes" if found else "")


CASES = {
    "a match that takes an alternative": choice(MATCH, "'batch'", True),
    "a match of a class with a guard": choice(MATCH, "'instance'", True),
    "a match of a sequence": choice(MATCH, "('group', 2)", False),
    "a match of a singleton": choice(MATCH, "None", False),
    "a match that may be one or the other": choice(MATCH, "object().kind", False),
    "a match in forward": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)  # yes
        self.norm = nn.BatchNorm2d(4)
        self.other = nn.Conv2d(3, 4, 1)
    def forward(self, x, mode):
        match x.ndim:
            case 4:
                x = self.norm(self.conv(x))
            case _:
                raise ValueError
        match mode:
            case {"norm": True, **rest}:
                return self.norm(self.other(x)), rest
            case [*first, last]:
                return self.other(x) + last
        return x
""",
    "a member of an enumeration in a table": choice(
        MEMBERS.format(choice=TABLE, **TEXT), "Norm.BATCH", True
    ),
    "a member by its value": choice(MEMBERS.format(choice=TABLE, **TEXT), "Norm('batch')", True),
    "the value of a member": choice(MEMBERS.format(choice=VALUE, **TEXT), "Norm.BATCH", True),
    "the other member": choice(MEMBERS.format(choice=TABLE, **TEXT), "Norm.NONE", False),
    "a member with a number of its own": choice(
        MEMBERS.format(choice=BRANCH, **NUMBER), "Norm.BATCH", True
    ),
    "another one": choice(MEMBERS.format(choice=BRANCH, **NUMBER), "Norm.NONE", False),
    "a norm that is an attribute of the class": """
class Base(nn.Module):
    norm = nn.BatchNorm1d
    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), self.norm(width))  # yes
        self.more = nn.Sequential(nn.Linear(width, 4), type(self).norm(4))  # yes
    def forward(self, x):
        return self.more(self.layers(x))
""",
    "one that a derived class changes": """
class Base(nn.Module):
    norm = nn.BatchNorm1d
    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), self.norm(width))
    def forward(self, x):
        return self.layers(x)
class Other(Base):
    norm = nn.LayerNorm
""",
    "records of layers": """
class Spec(NamedTuple):
    inside: int
    outside: int
    norm: bool = True
    bias: bool = True
class Net(nn.Module):
    def __init__(self, specs=(Spec(3, 8), Spec(8, 4))):
        super().__init__()
        self.layers = nn.ModuleList()
        for inside, outside, norm, bias in specs:
            conv = nn.Conv2d(inside, outside, 3, bias=bias)  # yes
            self.layers.append(nn.Sequential(conv, nn.BatchNorm2d(outside) if norm else None))
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
""",
    "pairs and chains": """
def mlp(*sizes):
    parts = [(nn.Linear(a, b), nn.BatchNorm1d(b)) for a, b in itertools.pairwise(sizes)]  # yes
    return nn.Sequential(*itertools.chain.from_iterable(parts), nn.Linear(sizes[-1], 1))
def net():
    return mlp(3, 4, 5)
""",
}


@pytest.mark.parametrize("name", CASES)
def test_findings_are_exactly_the_marked_lines(name: str) -> None:
    source = HEAD + CASES[name]
    expected = [n for n, line in enumerate(source.splitlines(), 1) if line.endswith("# yes")]
    found = lint_source(source, settings=Settings(select=("BN101",)))
    assert [finding.line for finding in found] == expected
