"""What networks with known parameters and with symbols say of one place is one finding."""

from bncheck.config import Settings
from bncheck.findings import Confidence
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


LAYERS = """
from torch import nn

def make_layers(widths, norm=False):
    layers, channels = [], 3
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3)]
        if norm:
            layers += [nn.BatchNorm2d(width)]
        layers += [nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)

normal = make_layers([8, 16], norm=True)
"""


def test_what_is_right_in_other_instances_is_possible_has_another_advice_and_no_fix() -> None:
    pedantic = Settings(select=("BN101",), pedantic=True)
    (found,) = lint_source(LAYERS, settings=pedantic)
    assert found.fix is not None
    assert found.confidence is not Confidence.POSSIBLE
    (found,) = lint_source(LAYERS + "plain = make_layers([8, 16])\n", settings=pedantic)
    assert found.fix is None
    assert found.confidence is Confidence.POSSIBLE
    assert "bias=not use_norm" in found.hint


PARTS = """
from torch import nn

class Layer(nn.Module):
    def __init__(self, inputs, outputs, norm=False):
        super().__init__()
        layers = [nn.Conv2d(inputs, outputs, 3, padding=1)]
        if norm:
            layers.append(nn.BatchNorm2d(outputs))
        self.layers = nn.Sequential(*layers)
    def forward(self, x):
        return self.layers(x)

class Residual(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.layer = Layer(width, width, norm=True)
    def forward(self, x):
        return x + self.layer(x)
"""
WHOLE = """
class Network(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.first = Layer(inputs, 64)
        self.body = Residual()
    def forward(self, x):
        return self.body(self.first(x))
"""


def test_a_part_with_defaults_tells_less_than_a_network_whose_layers_differ() -> None:
    settings = Settings(select=("BN101",))
    assert [finding.line for finding in lint_source(PARTS, settings=settings)] == [7]
    assert not lint_source(PARTS + WHOLE, settings=settings)
