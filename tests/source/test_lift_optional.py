"""What a forward does with parameters that callers may leave out."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.worker import lint_source

HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
"""

CASES = {
    "a flag also returns what the layer gives": (
        "",
        """
    def forward(self, x, with_features=False):
        z = self.conv(x)
        y = self.bn(z)
        if with_features:
            return z, y
        return y
""",
    ),
    "a flag returns something else": (
        "BN101",
        """
    def forward(self, x, with_features=False):
        y = self.bn(self.conv(x))
        features = y.relu()
        return (features, y) if with_features else y
""",
    ),
    "a flag passes the norm over": (
        "",
        """
    def forward(self, x, *, normalise=True):
        x = self.conv(x)
        return self.bn(x) if normalise else x
""",
    ),
    "a keyword of any name": (
        "",
        """
    def forward(self, x, **options):
        x = self.conv(x)
        if options.get("raw"):
            return x
        return self.bn(x)
""",
    ),
    "a mask between": (
        "",
        """
    def forward(self, x, mask=None):
        x = self.conv(x)
        if mask is not None:
            x = x.masked_fill(mask, 0)
        return self.bn(x)
""",
    ),
    "a mask behind": (
        "BN101",
        """
    def forward(self, x, mask=None):
        x = self.bn(self.conv(x))
        return x if mask is None else x * mask
""",
    ),
    "a number of rounds": (
        "BN101",
        """
    def forward(self, x, rounds=3):
        for _ in range(rounds):
            x = x + self.bn(self.conv(x))
        return x
""",
    ),
    "any other value raises": (
        "BN101",
        """
    def forward(self, x, mode="plain"):
        x = self.conv(x)
        if mode != "plain":
            raise ValueError(mode)
        return self.bn(x)
""",
    ),
    "the network that calls it gives no other value": (
        "BN101",
        """
    def forward(self, x, with_features=False):
        z = self.conv(x)
        y = self.bn(z)
        return (z, y) if with_features else y

class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Net()
    def forward(self, x):
        return self.body(x)
""",
    ),
    "one of two flags of the network that calls it": (
        "",
        """
    def forward(self, x, with_features=False):
        z = self.conv(x)
        y = self.bn(z)
        return (z, y) if with_features else y

class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Net()
    def forward(self, x, with_features=False):
        return self.body(x, with_features)
""",
    ),
    "a norm for a flag only": (
        "",
        """
    def forward(self, x, normalise=False):
        x = self.conv(x)
        return self.bn(x) if normalise else x
""",
    ),
    "a norm for no flag": (
        "BN105",
        """
    def forward(self, x, active=False):
        x = self.conv(x)
        return x.relu() if active else x
""",
    ),
    "channels that a flag takes away": (
        "",
        """
    def forward(self, x, half=False):
        x = torch.cat([self.conv(x).relu(), self.conv(x).relu()], 1)
        if half:
            x = x[:, ::2]
        return self.bn(x)
""",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_value_of_an_optional_parameter_counts(name: str) -> None:
    expected, forward = CASES[name]
    found = lint_source(HEAD + forward, settings=Settings(select=("BN1",), pedantic=True))
    assert [finding.code for finding in found] == ([expected] if expected else [])
