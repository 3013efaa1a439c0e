"""What else reads a layer's output, and where its norm comes from."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.worker import lint_source

HEAD = """
import torch.nn as nn

class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3)  {mark}
"""

CASES = {
    "a norm for each domain": (
        "# BN101",
        """
class Net(Convolution):
    def __init__(self, domains=3):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(8) for _ in range(domains)])
    def forward(self, x, domain):
        return self.norms[domain](self.conv(x)).relu()
""",
    ),
    "a norm or none for each domain": (
        "",
        """
class Net(Convolution):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleDict({"a": nn.BatchNorm2d(8), "b": nn.Identity()})
    def forward(self, x, domain):
        return self.norms[domain](self.conv(x)).relu()
""",
    ),
    "norms of two places of a list": (
        "",
        """
class Net(Convolution):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8)])
        self.other = nn.Conv2d(8, 8, 3)
    def forward(self, x, level):
        x = self.norms[2 * level](self.conv(x).relu())
        return self.norms[2 * level + 1](self.other(x).relu())
""",
    ),
    "some of the norms": (
        "",
        """
class Net(Convolution):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8)])
    def forward(self, x, levels):
        x = self.conv(x)
        for norm in self.norms[:levels]:
            x = norm(x).relu()
        return x
""",
    ),
    "a norm that a derived class sets": (
        "# BN101",
        """
class Base(Convolution):
    def forward(self, x):
        return self.norm(self.conv(x)).relu()
class Net(Base):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
""",
    ),
    "a method that a derived class has": (
        "# BN101",
        """
class Base(Convolution):
    def __init__(self):
        super().__init__()
        self.add_norm()
    def forward(self, x):
        return self.norm(self.conv(x)).relu()
class Net(Base):
    def add_norm(self):
        self.norm = nn.BatchNorm2d(8)
""",
    ),
    "a norm that a derived class puts in the place of none": (
        "",
        """
class Base(Convolution):
    def __init__(self):
        super().__init__()
        self.norm = nn.Identity()
    def forward(self, x):
        return self.norm(self.conv(x)).relu()
class Net(Base):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
""",
    ),
    "an output that another method reads": (
        "",
        """
class Net(Convolution):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
    def forward(self, x):
        self.features = self.conv(x)
        return self.norm(self.features)
    def penalty(self):
        return self.features.pow(2).mean()
""",
    ),
    "an output that only the forward reads": (
        "# BN101",
        """
class Net(Convolution):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
        self.features = None
    def forward(self, x):
        self.features = self.conv(x)
        return self.norm(self.features)
""",
    ),
    "a norm of apex, or torch's where there is none": (
        "# BN101",
        """
try:
    from apex.parallel import SyncBatchNorm as Norm
except ImportError:
    Norm = nn.BatchNorm2d
class Net(Convolution):
    def __init__(self):
        super().__init__()
        self.norm = Norm(8)
    def forward(self, x):
        return self.norm(self.conv(x))
""",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_use_of_the_output_counts(name: str) -> None:
    mark, classes = CASES[name]
    source = HEAD.format(mark=mark) + classes
    marked = [n for n, line in enumerate(source.split("\n"), 1) if line.endswith("# BN101")]
    found = lint_source(source, settings=Settings(select=("BN1",)))
    assert [(finding.code, finding.line) for finding in found] == [("BN101", n) for n in marked]
