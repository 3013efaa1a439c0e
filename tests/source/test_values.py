"""Networks that are constructed at module level."""

from bncheck import lint_source

SOURCE = """\
from torch import nn


class First(nn.Module):
    def __init__(self, k=3):
        super().__init__()
        self.conv = nn.Conv2d(3, k, 1)
        self.bn = nn.BatchNorm2d(k)

    def forward(self, x):
        return self.bn(self.conv(x))


class Second(First):
    def __init__(self, k=3):
        super().__init__(k)
        self.other = nn.Conv2d(k, k, 1)
        self.late = nn.BatchNorm2d(k)

    def forward(self, x):
        return self.late(self.other(super().forward(x)))


net = First()
net = Second(k=4)
"""


def test_a_name_that_is_bound_twice_names_two_networks() -> None:
    found = [finding.line for finding in lint_source(SOURCE) if finding.code == "BN101"]
    assert found == [7, 17]
