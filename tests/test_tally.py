"""What networks with known parameters and with symbols say of one place is one finding."""

from bncheck.config import Settings
from bncheck.worker import lint_source

NETWORKS = """
import torch.nn.functional as F
from torch import nn

class SampleNorm(nn.modules.batchnorm._BatchNorm):
    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, True
        )

class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 3, bias=False)
        self.norm = SampleNorm(channels)
    def forward(self, x):
        return self.norm(self.conv(x)).relu()

class Pair(nn.Sequential):
    def __init__(self):
        super().__init__(Block(8), Block(8))

class Wide(nn.Sequential):
    def __init__(self, width):
        super().__init__(Block(width), nn.ReLU())
"""


def test_a_call_is_found_once() -> None:
    found = lint_source(NETWORKS, settings=Settings(select=("BN108",)))
    assert [finding.line for finding in found] == [7]
