"""BN101 at functional calls that are given a bias: `# yes` marks the lines that are findings."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.worker import lint_source

HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class Weights(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))
        if bias:
            self.bias = nn.Parameter(torch.zeros(8))
        else:
            self.register_parameter("bias", None)

class Convolution(Weights):
    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias)

class Base(Weights):
    def __init__(self, bias=True):
        super().__init__(bias)
        self.bn = nn.BatchNorm2d(8)
"""

CASES = {
    "a parameter of its own": """
class Net(Base):
    def forward(self, x):
        x = F.conv2d(x, self.weight, self.bias, padding=1)  # yes
        return self.bn(x).relu()
""",
    "no parameter": """
class Net(Base):
    def __init__(self):
        super().__init__(bias=False)
    def forward(self, x):
        return self.bn(F.conv2d(x, self.weight, self.bias))
""",
    "no bias in the call": """
class Net(Base):
    def forward(self, x):
        return self.bn(F.conv2d(x, self.weight)) + self.bias[:, None, None]
""",
    "linear, by keyword, and a functional norm": """
class Net(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))
    def forward(self, x):
        x = torch.nn.functional.linear(x, self.weight[:, :, 0, 0], bias=self.bias)  # yes
        return F.batch_norm(x, self.mean, self.var, training=self.training)
""",
    "an activation between": """
class Net(Base):
    def forward(self, x):
        return self.bn(F.conv2d(x, self.weight, self.bias).relu())
""",
    "a bias of each image": """
class Net(Base):
    def forward(self, x, y):
        return self.bn(F.conv2d(x, self.weight, y.mean((0, 2, 3))))
""",
    "a bias that may be there": """
class Net(Base):
    def __init__(self, bias):
        super().__init__(bias)
    def forward(self, x):
        return self.bn(F.conv2d(x, self.weight, self.bias))
""",
    "one call, with and without a norm": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.last = Convolution(), nn.BatchNorm2d(8), Convolution()
    def forward(self, x):
        return self.last(self.bn(self.conv(x)).relu())
""",
    "one call, in two networks": """
class First(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = Convolution(), nn.BatchNorm2d(8)
    def forward(self, x):
        return self.bn(self.conv(x))
class Second(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = Convolution()
    def forward(self, x):
        return self.conv(x).relu()
""",
    "one call, always before a norm": """
class Row(Weights):
    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias)  # yes
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            Row(), nn.BatchNorm2d(8), nn.ReLU(), Row(), nn.BatchNorm2d(8)
        )
    def forward(self, x):
        return self.body(x)
""",
    "the bias of a layer with a weight that is not followed": """
class Convolution(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, scaled(self.weight), self.bias)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = Convolution(3, 8, 3)  # yes
        self.bn = nn.BatchNorm2d(8)
        self.last = Convolution(8, 8, 3)
    def forward(self, x):
        return self.last(self.bn(self.conv(x)).relu())
""",
}


@pytest.mark.parametrize("name", CASES)
def test_a_call_with_a_bias_before_a_norm(name: str) -> None:
    source = HEAD + CASES[name]
    marked = [n for n, line in enumerate(source.split("\n"), 1) if line.endswith("# yes")]
    found = lint_source(source, settings=Settings(select=("BN101",)))
    assert [finding.line for finding in found] == marked
    assert all(finding.fix is None for finding in found if "given a bias" in finding.message)
